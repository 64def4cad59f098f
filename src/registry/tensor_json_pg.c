/*
 * tensor_json_pg.c
 *	  infer_json(): tensors as nested arrays of a jsonb object.
 */
#include "postgres.h"

#include <math.h>

#include "common/shortest_dec.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "registry/run.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(millrace_infer_json);

typedef struct number_list
{
	double	   *d;
	int64		n;
	int64		capacity;
	nn_shape	shape;			/* of the nesting; rank -1: ragged or too deep */
} number_list;

/* All numbers of nested arrays, in order. */
static void
collect_numbers(JsonbContainer *array, number_list *out, const char *tensor)
{
	JsonbIterator *it = JsonbIteratorInit(array);
	JsonbIteratorToken token;
	JsonbValue	v;
	int			depth = 0;
	bool		ragged = false;
	int64		product = 1;

	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		if (token == WJB_BEGIN_ARRAY)
		{
			if (depth == NN_MAX_RANK)
				ragged = true;
			else if (depth == out->shape.rank)
				out->shape.dims[out->shape.rank++] = v.val.array.nElems;
			else if (out->shape.dims[depth] != v.val.array.nElems)
				ragged = true;
			depth = Min(depth + 1, NN_MAX_RANK);
			continue;
		}
		if (token == WJB_END_ARRAY)
		{
			depth--;
			continue;
		}
		if (token != WJB_ELEM || (v.type != jbvNumeric && v.type != jbvBool))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("input \"%s\" must be numbers in arrays", tensor)));
		if (out->n == out->capacity)
		{
			out->capacity *= 2;
			out->d = repalloc_huge(out->d, out->capacity * sizeof(double));
		}
		out->d[out->n++] = v.type == jbvBool ? v.val.boolean :
			DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v.val.numeric)));
		if ((out->n & 0xffff) == 0)
			CHECK_FOR_INTERRUPTS();
	}
	for (int i = 0; i < out->shape.rank; i++)
		product *= Min(out->shape.dims[i], 1 + out->n);
	if (ragged || product != out->n)
		out->shape.rank = -1;
}

/*
 * What shape the nesting of an input's numbers says, one level less being one
 * row.  Flat numbers, and those that contradict the model, say nothing.
 */
static nn_shape
nested_shape(const number_list *list, const nn_tensor_info *t)
{
	static const nn_shape nothing = {.rank = -1};
	nn_shape	s = list->shape;

	if (s.rank >= 0 && s.rank == t->rank - 1)
	{
		memmove(s.dims + 1, s.dims, s.rank * sizeof(s.dims[0]));
		s.dims[0] = 1;
		s.rank++;
	}
	if (s.rank != t->rank)
		return nothing;
	for (int i = 0; i < t->rank; i++)
		if (t->declared[i] != -1 && t->declared[i] != s.dims[i] && (i > 0 || t->declared[i] > 1))
			return nothing;
	return s;
}

static void
read_numbers(Jsonb *inputs, const char *name, number_list *out)
{
	JsonbValue	v;

	if (!JB_ROOT_IS_OBJECT(inputs))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("inputs must be an object of input names and arrays")));
	out->n = 0;
	out->shape.rank = 0;
	out->capacity = 1024;
	out->d = palloc(out->capacity * sizeof(double));
	if (getKeyJsonValueFromContainer(&inputs->root, name, strlen(name), &v) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("input \"%s\" is missing", name)));
	if (v.type == jbvNumeric)
		out->d[out->n++] = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v.val.numeric)));
	else if (v.type == jbvBinary && JsonContainerIsArray(v.val.binary.data))
		collect_numbers(v.val.binary.data, out, name);
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("input \"%s\" must be numbers in arrays", name)));
}

/* Numbers as elements of an input. */
static void *
json_elements(const nn_tensor_info *t, number_list *list)
{
	void	   *data = reg_alloc_elements(list->n, t->dtype, t->name);

	for (int64 i = 0; i < list->n; i++)
		if (!reg_set_element(data, t->dtype, i, list->d[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("input \"%s\": %g is out of range for type %s", t->name, list->d[i],
							nn_dtype_name((nn_dtype) t->dtype))));
	pfree(list->d);
	return data;
}

/* One number; JSON has no NaN and no infinity: null. */
static JsonbValue *
push_number(JsonbParseState **state, JsonbIteratorToken token, double d, bool single)
{
	JsonbValue	v;

	if (!isfinite(d))
		v.type = jbvNull;
	else
	{
		char		digits[DOUBLE_SHORTEST_DECIMAL_LEN];

		/* The shortest text that reads back as the same float; float4's cast to
		 * numeric would round to six digits. */
		if (single)
			float_to_shortest_decimal_buf((float) d, digits);
		else
			double_to_shortest_decimal_buf(d, digits);
		v.type = jbvNumeric;
		v.val.numeric = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(digits),
															ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	}
	return pushJsonbValue(state, token, &v);
}

/* Nested arrays of a tensor; *at walks over its elements. */
static void
push_tensor(JsonbParseState **state, const int64 *dims, int rank, const void *data, int32 dtype, int64 *at)
{
	if (rank == 0)
	{
		push_number(state, WJB_ELEM, reg_get_element(data, dtype, *at), dtype == nn_float32);
		(*at)++;
		return;
	}
	CHECK_FOR_INTERRUPTS();
	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (int64 i = 0; i < dims[0]; i++)
		push_tensor(state, dims + 1, rank - 1, data, dtype, at);
	pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

static void
push_output(JsonbParseState **state, const char *name, int batch, const nn_tensor_info *t,
			const void *data, const nn_shape *found, int n_outputs)
{
	int64		dims[NN_MAX_RANK];
	int64		at = 0;
	JsonbValue	key;

	key.type = jbvString;
	key.val.string.val = unconstify(char *, name);
	key.val.string.len = strlen(name);
	pushJsonbValue(state, WJB_KEY, &key);
	if (found && reg_has_dynamic(t))
	{
		/* each row as large as it came out; several: a list of them */
		if (batch > 1)
			pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
		for (int i = 0; i < batch; i++)
		{
			at = i * t->elements;
			push_tensor(state, found[(int64) i * n_outputs].dims, t->rank, data, t->dtype, &at);
		}
		if (batch > 1)
			pushJsonbValue(state, WJB_END_ARRAY, NULL);
		return;
	}
	reg_batch_dims(t, batch, dims);
	if (t->rank == 0)
		push_number(state, WJB_VALUE, reg_get_element(data, t->dtype, 0), t->dtype == nn_float32);
	else
		push_tensor(state, dims, t->rank, data, t->dtype, &at);
}

/*
 * infer_json(model text, inputs jsonb) -> jsonb
 *
 * {"input name": nested or flat arrays, ...} to {"output name": nested arrays}.
 * A learner's are "input" and "output".
 */
Datum
millrace_infer_json(PG_FUNCTION_ARGS)
{
	const reg_model *m;
	Jsonb	   *inputs_json;
	JsonbParseState *state = NULL;
	number_list numbers;

	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	m = reg_resolve_arg(fcinfo, 0, REG_DESCRIBE);
	reg_stat_ask(m);
	inputs_json = PG_GETARG_JSONB_P(1);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (m->kind != REG_ONNX)
	{
		nn_tensor_info t = {.rank = 2,.dtype = nn_float32,.dims = {-1, m->n_outputs}};
		float	   *rows;
		float	   *answer;
		int			batch;

		read_numbers(inputs_json, "input", &numbers);
		batch = reg_batch_of(m->reference, "input", numbers.n, m->n_inputs);
		rows = reg_alloc_elements(numbers.n, nn_float32, "input");
		for (int64 i = 0; i < numbers.n; i++)
			rows[i] = (float) numbers.d[i];
		answer = reg_alloc_elements((int64) batch * m->n_outputs, nn_float32, "output");
		reg_infer_scores(m, rows, batch, answer);
		push_output(&state, "output", batch, &t, answer, NULL, 1);
	}
	else
	{
		const nn_model *nn = &m->loaded->nn;
		const nn_model *plan;
		number_list lists[NN_MAX_PORTS];
		nn_shape	shapes[NN_MAX_PORTS];
		const void *inputs[NN_MAX_PORTS];
		void	   *outputs[NN_MAX_PORTS];
		nn_shape   *found;
		int			batch = 0;

		reg_load(m);
		for (int k = 0; k < nn_n_inputs(nn); k++)
		{
			read_numbers(inputs_json, nn_input(nn, k)->name, &lists[k]);
			shapes[k] = nested_shape(&lists[k], nn_input(nn, k));
		}
		plan = reg_find_plan(m, nn_n_inputs(nn), shapes, &batch);
		if (plan)
			nn = plan;			/* else the checks below find what is wrong */
		for (int k = 0; k < nn_n_inputs(nn); k++)
		{
			const nn_tensor_info *t = nn_input(nn, k);
			int			b = plan == NULL && shapes[k].rank > 0 && t->dims[0] == -1 ? (int) shapes[k].dims[0] :
				reg_batch_of(m->reference, t->name, lists[k].n, t->elements);

			if (k > 0 && b != batch)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("inputs \"%s\" and \"%s\" hold a different number of rows",
								nn_input(nn, 0)->name, t->name)));
			batch = b;
			inputs[k] = json_elements(t, &lists[k]);
		}
		if (plan == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the inputs do not fit model \"%s\"", m->reference)));
		for (int k = 0; k < nn_n_outputs(nn); k++)
			outputs[k] = reg_alloc_elements(batch * nn_output(nn, k)->elements,
											nn_output(nn, k)->dtype, nn_output(nn, k)->name);
		found = palloc(sizeof(nn_shape) * batch * nn_n_outputs(nn));
		reg_infer_network(m, nn, batch, inputs, outputs, found);
		for (int k = 0; k < nn_n_outputs(nn); k++)
			push_output(&state, nn_output(nn, k)->name, batch, nn_output(nn, k), outputs[k], found + k,
						nn_n_outputs(nn));
	}
	PG_RETURN_JSONB_P(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}
