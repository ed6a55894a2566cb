-- A match says how many n-grams and which text are shared, and what share of the sample that is.

select
    "partition",
    prompt_id,
    benchmark,
    sample_id,
    shared_ngrams,
    longest_run,
    ratio,
    matched
from contamination
where (
    shared_ngrams >= 1
    and longest_run >= 1
    and ratio between 0 and 1
    and matched is not null
    and contaminated is not null
) is not true
