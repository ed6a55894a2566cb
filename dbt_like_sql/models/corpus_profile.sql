-- One row: what one prompt style gave one dataset group, and what became of it.

with removed as (
    select prompt_id, true as duplicate
    from duplicates
),

leaked as (
    select distinct prompt_id, true as contaminated
    from contamination
    where contaminated
)

select
    documents."group",
    documents.style,
    documents.model,
    count(*) as documents,
    sum(documents.n_words)::bigint as words,
    count(*) filter (documents.truncated) as truncated,
    count(*) filter (removed.duplicate) as duplicates,
    count(*) filter (leaked.contaminated) as contaminated,
    count(*) filter (removed.duplicate is null and leaked.contaminated is null) as kept
from documents
left join removed using (prompt_id)
left join leaked using (prompt_id)
group by all
order by documents."group", documents.style, documents.model
