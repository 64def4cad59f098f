/*
 * latent_pg.c
 *	  What the SQL functions of latent space share.
 */
#include "quality/latent_pg.h"

#include "catalog/pg_type.h"
#include "core/compat.h"
#include "learn/settings.h"
#include "nn/nn_pg.h"
#include "utils/memutils.h"

void
qlt_call_begin(qlt_call *call)
{
	call->context = AllocSetContextCreate(CurrentMemoryContext, "millrace latent space", ALLOCSET_DEFAULT_SIZES);
	call->env = mr_pg_env(call->context);
	call->w = (qlt_work) {.env = &call->env,.max_memory = (size_t) lrn_train_memory_kb * 1024,.isa = nn_pg_options().isa};
	memset(&call->st, 0, sizeof(call->st));
}

void
qlt_call_end(qlt_call *call)
{
	MemoryContextDelete(call->context);
}

qlt_vectors
qlt_vectors_of(ArrayType *array, int32 dims, const char *name)
{
	int64		numbers = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

	if (array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not contain NULLs", name)));
	if (dims < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("dims must be at least 1, not %d", dims)));
	if (numbers % dims != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s do not divide into vectors of %d dimensions", name, dims),
				 errdetail("There are %lld numbers.", (long long) numbers),
				 errhint("Vectors stand one after the other; array_agg(vector) of vectors of the same length is such an array.")));
	return (qlt_vectors) {(const float *) ARR_DATA_PTR(array), numbers / dims, dims};
}

const int32 *
qlt_labels_of(ArrayType *array, int64 n)
{
	int64		labels = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

	if (array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("labels must not contain NULLs")));
	if (labels != n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there must be one label for each of %lld vectors, not %lld", (long long) n, (long long) labels)));
	return (const int32 *) ARR_DATA_PTR(array);
}

ArrayType *
qlt_new_array(int64 n, Oid type, int width)
{
	Size		size = ARR_OVERHEAD_NONULLS(1) + (Size) n * width;
	ArrayType  *array;

	if (n == 0)
		return construct_empty_array(type);
	if (!AllocSizeIsValid(size))
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the result would be larger than an array can be")));
	array = palloc(size);
	SET_VARSIZE(array, size);
	array->ndim = 1;
	array->dataoffset = 0;
	array->elemtype = type;
	ARR_DIMS(array)[0] = (int) n;
	ARR_LBOUND(array)[0] = 1;
	return array;
}
