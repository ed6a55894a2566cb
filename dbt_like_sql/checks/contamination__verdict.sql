-- One threshold parts contaminated rows from others. The rows on the wrong side of the ratio that
-- parts them best are the offenders; where two ratios do equally well, those wrong by either.

with tallies as (
    select
        ratio,
        count(*) filter (contaminated) as flagged,
        count(*) filter (not contaminated) as clear
    from contamination
    group by ratio
    union all
    select
        -1 as ratio,  -- below which all rows are contaminated
        0 as flagged,
        0 as clear
),

cuts as (
    select
        ratio,
        sum(flagged) over up_to + sum(clear) over () - sum(clear) over up_to as wrong
    from tallies
    window up_to as (order by ratio)
),

best as (
    select
        min(ratio) as least,
        max(ratio) as most
    from cuts
    where wrong = (select min(wrong) from cuts)
)

select
    contamination."partition",
    contamination.prompt_id,
    contamination.benchmark,
    contamination.sample_id,
    contamination.ratio,
    contamination.contaminated
from contamination
cross join best
where case
    when contamination.contaminated then contamination.ratio <= best.most
    else contamination.ratio > best.least
end
