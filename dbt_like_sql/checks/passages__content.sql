-- A passage is named after its partition, its title and its words, and its terms are counted.

select
    "partition",
    passage_id,
    n_terms
from passages
where (
    passage_id = "partition" || ':' || left(md5(title || chr(31) || text), 16)
    and regexp_matches(text, '\S')
    and len(terms) = len(counts)
    and terms = list_sort(list_distinct(terms))
    and n_terms = coalesce(list_sum(counts), 0)
) is not true
