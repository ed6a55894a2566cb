-- Removed documents are candidates, candidates are documents, and removal names its samples.

select
    "partition",
    "group",
    benchmark,
    documents,
    candidates,
    removed,
    unique_samples
from contamination_report
where (
    "group" = "partition"
    and documents >= 1
    and candidates <= documents
    and removed between 0 and candidates
    and unique_samples >= 0
    and (unique_samples > 0) = (removed > 0)
) is not true
