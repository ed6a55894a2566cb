-- No prompt of a cell shows a hole of its template. What is quoted may hold the same words, in a
-- script say; but a hole left open is open in every prompt that was built the same way.

with seen as (
    select
        "partition",
        prompt_id,
        topic_named,
        case
            when contains(prompt, '$')
                then regexp_extract(
                    replace(prompt, extract, ''),
                    '\$(extract|topic|title|category|covered|siblings|words|features|function_name'
                    || '|passages|bans)\b'
                )
            else ''
        end as hole
    from prompts
)

select
    "partition",
    prompt_id,
    hole
from seen
qualify bool_and(hole <> '') over (partition by "partition", topic_named)
