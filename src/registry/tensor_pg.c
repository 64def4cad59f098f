/*
 * tensor_pg.c
 *	  infer(): numbers in, numbers out, for any model; elements of tensors.
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "registry/run.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(millrace_infer);

size_t
reg_element_size(int32 dtype, const char *tensor)
{
	switch (dtype)
	{
		case nn_float32:
		case nn_int32:
		case nn_uint32:
			return 4;
		case nn_float64:
		case nn_int64:
		case nn_uint64:
			return 8;
		case nn_uint8:
		case nn_int8:
		case nn_bool:
			return 1;
		case nn_uint16:
		case nn_int16:
			return 2;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("tensor \"%s\" has elements of type %s, which SQL cannot pass",
							tensor, nn_dtype_name((nn_dtype) dtype))));
	}
	return 0;
}

#define FOR_EACH_TYPE(X) \
	X(nn_float32, float) X(nn_float64, double) X(nn_int64, int64) X(nn_uint64, uint64) \
	X(nn_int32, int32) X(nn_uint32, uint32) X(nn_int16, int16) X(nn_uint16, uint16) \
	X(nn_int8, int8) X(nn_uint8, uint8) X(nn_bool, uint8)

double
reg_get_element(const void *data, int32 dtype, int64 i)
{
	switch (dtype)
	{
#define X(tag, type) case tag: return (double) ((const type *) data)[i];
			FOR_EACH_TYPE(X)
#undef X
	}
	return 0;
}

/* Store a number as an element; false if it is not one of that type. */
bool
reg_set_element(void *data, int32 dtype, int64 i, double d)
{
	double		back;

	if (dtype == nn_float32)
	{
		((float *) data)[i] = (float) d;
		return isfinite((float) d) || !isfinite(d);
	}
	if (dtype == nn_float64)
	{
		((double *) data)[i] = d;
		return true;
	}
	/* Beyond these a conversion to an integer would be undefined. */
	if (!(d >= -9007199254740992.0 && d <= 9007199254740992.0) || d != floor(d) ||
		(d < 0 && (dtype == nn_uint64 || dtype == nn_uint32 || dtype == nn_uint16 || dtype == nn_uint8 || dtype == nn_bool)))
		return false;
	switch (dtype)
	{
#define X(tag, type) case tag: ((type *) data)[i] = (type) (int64) d; break;
			FOR_EACH_TYPE(X)
#undef X
	}
	back = reg_get_element(data, dtype, i);
	return back == d && (dtype != nn_bool || d <= 1);
}

void *
reg_alloc_elements(int64 n, int32 dtype, const char *tensor)
{
	size_t		size = reg_element_size(dtype, tensor);

	if ((uint64) n > MaxAllocHugeSize / size)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("tensor \"%s\" is too large", tensor)));
	return MemoryContextAllocHuge(CurrentMemoryContext, n * size + 64);
}

int
reg_batch_of(const char *reference, const char *tensor, int64 n, int64 elements)
{
	if (n == 0 || elements == 0 || n % elements != 0 || n / elements > INT_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("input \"%s\" of model \"%s\" takes " INT64_FORMAT " numbers, or a multiple of that, not " INT64_FORMAT,
						tensor, reference, elements, n)));
	return (int) (n / elements);
}

void
reg_batch_dims(const nn_tensor_info *t, int batch, int64 *dims)
{
	bool		placed = batch == 1;

	for (int i = 0; i < t->rank; i++)
	{
		placed |= t->dims[i] <= 0;
		dims[i] = t->dims[i] > 0 ? t->dims[i] : batch;
	}
	if (!placed && t->rank > 0)
		dims[0] *= batch;
}

/* The dimensions of n numbers, as the caller gives them.  Raises 22023. */
static void
read_shape(ArrayType *shape, int64 n, nn_shape *out)
{
	int			rank;
	int32	   *dims;
	int64		product = 1;

	memset(out, 0, sizeof(*out));
	if (array_contains_nulls(shape))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("shape must not contain nulls")));
	if (ARR_NDIM(shape) != 1 || ARR_DIMS(shape)[0] > NN_MAX_RANK)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg(ARR_NDIM(shape) != 1 ? "shape must have one dimension" : "shape has too many entries")));
	rank = ARR_DIMS(shape)[0];
	dims = (int32 *) ARR_DATA_PTR(shape);
	for (int i = 0; i < rank; i++)
	{
		if (dims[i] < 1 || product > n)
			product = -1;
		product = product < 0 ? -1 : product * dims[i];
		out->dims[i] = dims[i];
	}
	out->rank = rank;
	if (product != n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the input has " INT64_FORMAT " numbers, which is not what its shape says", n)));
}

static void
bad_shape(const char *reference, const nn_tensor_info *t)
{
	StringInfoData s;

	initStringInfo(&s);
	for (int i = 0; i < t->rank; i++)
		if (t->declared[i] > 0)
			appendStringInfo(&s, "%s" INT64_FORMAT, i ? " x " : "", t->declared[i]);
		else
			appendStringInfo(&s, "%s%s", i ? " x " : "", i ? "any" : "N");
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("shape does not fit input \"%s\" of model \"%s\"", t->name, reference),
			 errdetail("The input is %s.", s.data)));
}

bool
reg_has_dynamic(const nn_tensor_info *t)
{
	for (int i = 0; i < t->rank; i++)
		if (t->dynamic[i])
			return true;
	return false;
}

/* An answer whose size depended on the data: real[] of that shape, or flat. */
static ArrayType *
dynamic_array(const nn_tensor_info *t, const nn_shape *found, const void *data, bool shaped)
{
	int64		n = 1;
	int			dims[MAXDIM] = {0};
	int			lbs[MAXDIM];
	int			ndim = shaped && found->rank > 0 && found->rank <= MAXDIM ? found->rank : 1;
	ArrayType  *result;
	float	   *values;
	size_t		size;

	for (int i = 0; i < found->rank; i++)
		n *= found->dims[i];
	if (n == 0)
		return construct_empty_array(FLOAT4OID);
	if ((uint64) n > (MaxAllocSize - 256) / sizeof(float))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("an answer of " INT64_FORMAT " numbers does not fit an array", n)));
	for (int i = 0; i < ndim; i++)
	{
		dims[i] = (int) (ndim == found->rank ? found->dims[i] : n);
		lbs[i] = 1;
	}
	size = ARR_OVERHEAD_NONULLS(ndim) + n * sizeof(float);
	result = palloc0(size);
	SET_VARSIZE(result, size);
	result->ndim = ndim;
	result->elemtype = FLOAT4OID;
	memcpy(ARR_DIMS(result), dims, ndim * sizeof(int));
	memcpy(ARR_LBOUND(result), lbs, ndim * sizeof(int));
	values = (float *) ARR_DATA_PTR(result);
	for (int64 i = 0; i < n; i++)
		values[i] = (float) reg_get_element(data, t->dtype, i);
	return result;
}

/* real[] of batch x dims: flat for one row unless shaped, two-dimensional when
 * the model's own dimensions are too many for an array. */
static ArrayType *
result_array(int batch, int64 elements, const nn_tensor_info *t, bool shaped, float **values)
{
	int64		n = (int64) batch * elements;
	int			dims[MAXDIM];
	int			ndim;
	ArrayType  *result;

	if (n == 0 || (uint64) n > (MaxAllocSize - 256) / sizeof(float))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("an answer of " INT64_FORMAT " numbers does not fit an array", n)));
	if (shaped && t && t->rank > 0 && t->rank <= MAXDIM)
	{
		int64		wide[NN_MAX_RANK];

		ndim = t->rank;
		reg_batch_dims(t, batch, wide);
		for (int i = 0; i < ndim; i++)
			dims[i] = (int) wide[i];
	}
	else if (batch > 1 || shaped)
	{
		ndim = 2;
		dims[0] = batch;
		dims[1] = (int) elements;
	}
	else
	{
		ndim = 1;
		dims[0] = (int) elements;
	}
	result = palloc(ARR_OVERHEAD_NONULLS(ndim) + n * sizeof(float));
	SET_VARSIZE(result, ARR_OVERHEAD_NONULLS(ndim) + n * sizeof(float));
	result->ndim = ndim;
	result->dataoffset = 0;
	result->elemtype = FLOAT4OID;
	for (int i = 0; i < ndim; i++)
	{
		ARR_DIMS(result)[i] = dims[i];
		ARR_LBOUND(result)[i] = 1;
	}
	*values = (float *) ARR_DATA_PTR(result);
	return result;
}

/* Numbers of a real[] in the element type of an input. */
static void *
convert_reals(const float *values, int64 n, const nn_tensor_info *t)
{
	void	   *data = reg_alloc_elements(n, t->dtype, t->name);

	for (int64 i = 0; i < n; i++)
		if (!reg_set_element(data, t->dtype, i, values[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("input \"%s\": %g is out of range for type %s", t->name,
							values[i], nn_dtype_name((nn_dtype) t->dtype))));
	return data;
}

/*
 * infer(model text, input real[], shape int[]) -> real[]
 *
 * One input, one answer (spec.output, else the first output; probabilities of
 * a classifier, projection of a PCA).  Several rows at once: a multiple of the
 * input's size.
 */
Datum
millrace_infer(PG_FUNCTION_ARGS)
{
	const reg_model *m;
	ArrayType  *array;
	ArrayType  *shape = PG_ARGISNULL(2) ? NULL : PG_GETARG_ARRAYTYPE_P(2);
	ArrayType  *result;
	const float *values;
	float	   *answer;
	int64		n;
	int			columns;
	int64		rows;
	int			batch;
	nn_shape	given;

	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	m = reg_resolve_arg(fcinfo, 0, REG_DESCRIBE);
	array = PG_GETARG_ARRAYTYPE_P(1);
	n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	reg_stat_ask(m);
	values = reg_floats(array, MAXDIM, !reg_takes_missing(m), "input", &rows, &columns);
	if (shape)
		read_shape(shape, n, &given);
	if (m->kind != REG_ONNX)
	{
		batch = reg_batch_of(m->reference, "input", n, m->n_inputs);
		result = result_array(batch, m->n_outputs, NULL, shape != NULL, &answer);
		reg_infer_scores(m, values, batch, answer);
		PG_RETURN_POINTER(result);
	}
	else
	{
		const nn_model *nn = &m->loaded->nn;
		const nn_tensor_info *in;
		const nn_tensor_info *out;
		const void *inputs[NN_MAX_PORTS];
		void	   *outputs[NN_MAX_PORTS] = {0};
		nn_shape	found[NN_MAX_PORTS];

		reg_load(m);
		in = nn_input(nn, 0);
		if (nn_n_inputs(nn) > 1 && m->loaded->spec.task != nn_task_none && shape == NULL)
		{
			batch = reg_batch_of(m->reference, in->name, n, m->n_inputs);
			result = result_array(batch, m->n_outputs, NULL, false, &answer);
			reg_infer_rows(m, values, batch, answer);
			PG_RETURN_POINTER(result);
		}
		if (nn_n_inputs(nn) != 1)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("model \"%s\" does not take one array of numbers", m->reference),
					 errdetail("It has %d inputs.", nn_n_inputs(nn)),
					 errhint("Use infer_json().")));
		if (shape && (nn = reg_find_plan(m, 1, &given, &batch)) == NULL)
			bad_shape(m->reference, in);
		in = nn_input(nn, 0);
		out = nn_output(nn, m->loaded->output);
		batch = reg_batch_of(m->reference, in->name, n, in->elements);
		inputs[0] = in->dtype == nn_float32 ? values : convert_reals(values, n, in);
		if (reg_has_dynamic(out))
		{
			if (batch > 1)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("output \"%s\" of model \"%s\" has another size for each row", out->name, m->reference),
						 errhint("Give one row at a time, or use infer_json().")));
			outputs[m->loaded->output] = reg_alloc_elements(out->elements, out->dtype, out->name);
			reg_infer_network(m, nn, 1, inputs, outputs, found);
			PG_RETURN_POINTER(dynamic_array(out, &found[m->loaded->output], outputs[m->loaded->output], shape != NULL));
		}
		result = result_array(batch, out->elements, out, shape != NULL, &answer);
		outputs[m->loaded->output] = out->dtype == nn_float32 ? (void *) answer :
			reg_alloc_elements(batch * out->elements, out->dtype, out->name);
		reg_infer_network(m, nn, batch, inputs, outputs, NULL);
		if (out->dtype != nn_float32)
			for (int64 i = 0; i < batch * out->elements; i++)
				answer[i] = (float) reg_get_element(outputs[m->loaded->output], out->dtype, i);
		PG_RETURN_POINTER(result);
	}
}
