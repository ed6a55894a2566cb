-- A seed document has words, and no column that prompts quote is missing.

select
    "partition",
    doc_id,
    n_words,
    left(text, 60) as text_start
from seed_documents
where (
    regexp_matches(text, '\S')
    and n_words between 1 and strlen(text)
    and title is not null
    and category is not null
) is not true
