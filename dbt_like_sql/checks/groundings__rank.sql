-- A document's passages are ranked 1, 2, 3 … by falling score, those of equal scores by id, and none
-- is found for it twice.

with ranked as (
    select
        *,
        row_number() over (
            partition by "partition", doc_id
            order by score desc, passage_id
        ) as place,
        count(*) over (partition by "partition", doc_id, passage_id) as times
    from groundings
)

select
    "partition",
    doc_id,
    rank,
    passage_id,
    score
from ranked
where (
    rank = place
    and times = 1
    and score >= 0
    and regexp_full_match(passage_id, '[a-z0-9_]+:[0-9a-f]{16}')
    and regexp_matches(text, '\S')
) is not true
