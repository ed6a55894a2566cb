-- One threshold parts contaminated rows from others. The rows on the wrong side of the ratio that
-- parts them best are the offenders; where two ratios do equally well, those wrong by either.

with running as (
    select
        ratio,
        count(*) filter (contaminated) over (order by ratio) as flagged_up_to,
        count(*) filter (not contaminated) over (order by ratio) as clear_up_to,
        count(*) filter (not contaminated) over () as clear
    from contamination
),

cuts as (
    select
        ratio,
        flagged_up_to + clear - clear_up_to as wrong
    from running
    union all
    select
        -1 as ratio,
        count(*) filter (not contaminated) as wrong
    from contamination
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
