-- Documents lie end to end: each has a token at least and starts where the one before it ends.

select
    "partition",
    prompt_id,
    "group",
    model,
    tokens,
    start
from token_shards
qualify (
    tokens >= 1
    and start = coalesce(
        sum(tokens) over (
            partition by "partition"
            order by start
            rows between unbounded preceding and 1 preceding
        ),
        0
    )
    and "group" = split_part("partition", '-', 1)
    and regexp_matches(model, '\S')
) is not true
