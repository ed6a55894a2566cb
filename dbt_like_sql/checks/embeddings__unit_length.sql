-- A vector has unit length, within what half floats can tell.

with measured as (
    select
        "partition",
        doc_id,
        case
            -- the product refuses a list with a gap in it
            when list_count(vector::float[]) = len(vector::float[])
                then sqrt(list_inner_product(vector::float[], vector::float[]))
        end as length
    from embeddings
)

select *
from measured
where (length between 0.99 and 1.01) is not true
