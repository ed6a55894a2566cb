-- Every document is kept, a duplicate or contaminated, perhaps both of these, and has words.

select
    "partition",
    "group",
    style,
    model,
    documents,
    words,
    truncated,
    duplicates,
    contaminated,
    kept
from corpus_profile
where (
    "group" = "partition"
    and documents >= 1
    and words >= documents
    and truncated between 0 and documents
    and duplicates <= documents - kept
    and contaminated <= documents - kept
    and kept between 0 and documents
    and kept + duplicates + contaminated >= documents
) is not true
