-- One row: what decontamination found of one benchmark in one dataset group. A benchmark with
-- nothing found has its row of zeros, so that absence is a statement.

with scanned as (
    select "group", count(*) as documents
    from documents
    group by "group"
),

asked as (
    select distinct benchmark
    from benchmark_index
),

found as (
    select
        split_part("partition", '-', 1) as "group",
        benchmark,
        count(distinct prompt_id) as candidates,
        count(distinct prompt_id) filter (contaminated) as removed,
        count(distinct (subset, split, sample_id)) filter (contaminated) as unique_samples
    from contamination
    group by all
)

select
    scanned."group",
    asked.benchmark,
    scanned.documents,
    coalesce(found.candidates, 0) as candidates,
    coalesce(found.removed, 0) as removed,
    coalesce(found.unique_samples, 0) as unique_samples
from scanned
cross join asked
left join found on found."group" = scanned."group" and found.benchmark = asked.benchmark
order by scanned."group", asked.benchmark
