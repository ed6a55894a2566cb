-- A sample's n-grams are distinct and ascending, and fewer than or as many as its words.

select
    "partition",
    benchmark,
    subset,
    split,
    sample_id,
    n_tokens,
    len(grams) as grams
from benchmark_index
where (
    grams = list_sort(list_distinct(grams))
    and len(grams) <= n_tokens
) is not true
