/*
 * sketch_pg.c
 *	  The type millrace.sketch, its aggregate, and figures of one or two of them.
 *
 * A datum is the bytes of lrn_sketch_write(): they are checked whenever they
 * are read.  The aggregate's state gathers numbers and adds them in blocks.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "registry/sketch_pg.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(millrace_sketch_in);
PG_FUNCTION_INFO_V1(millrace_sketch_out);
PG_FUNCTION_INFO_V1(millrace_sketch_recv);
PG_FUNCTION_INFO_V1(millrace_sketch_send);
PG_FUNCTION_INFO_V1(millrace_sketch_add_number);
PG_FUNCTION_INFO_V1(millrace_sketch_add_text);
PG_FUNCTION_INFO_V1(millrace_sketch_add_boolean);
PG_FUNCTION_INFO_V1(millrace_sketch_add_sketch);
PG_FUNCTION_INFO_V1(millrace_sketch_combine);
PG_FUNCTION_INFO_V1(millrace_sketch_serialize);
PG_FUNCTION_INFO_V1(millrace_sketch_deserialize);
PG_FUNCTION_INFO_V1(millrace_sketch_final);
PG_FUNCTION_INFO_V1(millrace_sketch_merge);
PG_FUNCTION_INFO_V1(millrace_sketch_quantile);
PG_FUNCTION_INFO_V1(millrace_sketch_describe);
PG_FUNCTION_INFO_V1(millrace_sketch_categories);
PG_FUNCTION_INFO_V1(millrace_drift_figures);
PG_FUNCTION_INFO_V1(millrace_drift_psi);
PG_FUNCTION_INFO_V1(millrace_drift_jensen_shannon);
PG_FUNCTION_INFO_V1(millrace_drift_ks);
PG_FUNCTION_INFO_V1(millrace_drift_mann_whitney);
PG_FUNCTION_INFO_V1(millrace_drift_chi2);

#define PENDING		256

/* State of sketch_agg(). */
typedef struct sketch_state
{
	lrn_sketch *sketch;			/* NULL: all rows are still pending */
	int			n;
	double		pending[PENDING];
} sketch_state;

/* ---- between bytes and sketches ---- */

void
reg_sketch_check(mr_code rc)
{
	if (rc == MR_INVALID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("sketches of numbers and of categories cannot be joined")));
	if (rc != MR_OK)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("A sketch could not grow.")));
}

lrn_sketch *
reg_sketch_create(const mr_env *env, lrn_sketch_kind kind)
{
	lrn_sketch *s = lrn_sketch_create(env, kind);

	if (s == NULL)
		reg_sketch_check(MR_NOMEM);
	return s;
}

Oid
reg_sketch_type(void)
{
	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("sketch"),
						   ObjectIdGetDatum(get_namespace_oid("millrace", false)));
}

static struct varlena *
to_varlena(const uint8 *bytes, size_t len)
{
	struct varlena *v = palloc(VARHDRSZ + len);

	SET_VARSIZE(v, VARHDRSZ + len);
	memcpy(VARDATA(v), bytes, len);
	return v;
}

struct varlena *
reg_sketch_to_datum(lrn_sketch *s)
{
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	uint8	   *bytes;
	size_t		len;
	struct varlena *v;

	reg_sketch_check(lrn_sketch_write(s, &env, &bytes, &len));
	v = to_varlena(bytes, len);
	mr_free(&env, bytes);
	return v;
}

static lrn_sketch *
from_bytes(const mr_env *env, const void *bytes, size_t len)
{
	lrn_sketch *s;
	mr_status	st;

	if (lrn_sketch_read(env, bytes, len, &s, &st) != MR_OK)
		mr_pg_raise(&st);
	return s;
}

lrn_sketch *
reg_sketch_from_datum(const mr_env *env, Datum d)
{
	struct varlena *v = PG_DETOAST_DATUM_PACKED(d);
	lrn_sketch *s = from_bytes(env, VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v));

	if ((Pointer) v != DatumGetPointer(d))
		pfree(v);
	return s;
}

void
reg_sketch_add_text(lrn_sketch *s, const char *text, int len)
{
	if (len > LRN_SKETCH_TEXT)
		len = pg_mbcliplen(text, len, LRN_SKETCH_TEXT);
	reg_sketch_check(lrn_sketch_add_text(s, text, len, 1));
}

void
reg_sketch_merge(lrn_sketch *into, const lrn_sketch *other)
{
	reg_sketch_check(lrn_sketch_merge(into, other));
}

Datum
millrace_sketch_in(PG_FUNCTION_ARGS)
{
	bytea	   *b = DatumGetByteaPP(DirectFunctionCall1(byteain, PG_GETARG_DATUM(0)));
	mr_env		env = mr_pg_env(CurrentMemoryContext);

	lrn_sketch_free(from_bytes(&env, VARDATA_ANY(b), VARSIZE_ANY_EXHDR(b)));
	PG_RETURN_POINTER(b);
}

/* Always hexadecimal, whatever bytea_output says: dumps are compared. */
Datum
millrace_sketch_out(PG_FUNCTION_ARGS)
{
	struct varlena *v = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));
	size_t		len = VARSIZE_ANY_EXHDR(v);
	char	   *out = palloc(len * 2 + 3);

	out[0] = '\\';
	out[1] = 'x';
	hex_encode(VARDATA_ANY(v), len, out + 2);
	out[len * 2 + 2] = '\0';
	PG_RETURN_CSTRING(out);
}

Datum
millrace_sketch_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	int			len = buf->len - buf->cursor;
	const char *bytes = pq_getmsgbytes(buf, len);

	lrn_sketch_free(from_bytes(&env, bytes, len));
	PG_RETURN_POINTER(to_varlena((const uint8 *) bytes, len));
}

Datum
millrace_sketch_send(PG_FUNCTION_ARGS)
{
	struct varlena *v = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));

	PG_RETURN_BYTEA_P(to_varlena((const uint8 *) VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v)));
}

/* ---- the aggregate ---- */

static MemoryContext
aggregate_context(FunctionCallInfo fcinfo)
{
	MemoryContext cxt;

	if (!AggCheckCallContext(fcinfo, &cxt))
		elog(ERROR, "aggregate function called in non-aggregate context");
	return cxt;
}

/* The state, made at the first row. */
static sketch_state *
get_state(FunctionCallInfo fcinfo, MemoryContext *cxt)
{
	*cxt = aggregate_context(fcinfo);
	return PG_ARGISNULL(0) ? MemoryContextAllocZero(*cxt, sizeof(sketch_state)) :
		(sketch_state *) PG_GETARG_POINTER(0);
}

/* Its sketch; only sketches to be joined can be of the other kind. */
static lrn_sketch *
state_sketch(sketch_state *state, MemoryContext cxt, lrn_sketch_kind kind)
{
	if (state->sketch == NULL)
	{
		mr_env		env = mr_pg_env(cxt);

		state->sketch = reg_sketch_create(&env, kind);
	}
	return state->sketch;
}

static void
flush(sketch_state *state, MemoryContext cxt)
{
	if (state->n > 0)
		reg_sketch_check(lrn_sketch_add(state_sketch(state, cxt, LRN_SKETCH_NUMBER), state->pending, state->n));
	state->n = 0;
}

Datum
millrace_sketch_add_number(PG_FUNCTION_ARGS)
{
	MemoryContext cxt;
	sketch_state *state = get_state(fcinfo, &cxt);

	if (state->n == PENDING)
		flush(state, cxt);
	state->pending[state->n++] = PG_ARGISNULL(1) ? NAN : PG_GETARG_FLOAT8(1);
	PG_RETURN_POINTER(state);
}

static void
add_category(sketch_state *state, MemoryContext cxt, const char *text, int len)
{
	lrn_sketch *s = state_sketch(state, cxt, LRN_SKETCH_CATEGORY);

	if (text)
		reg_sketch_add_text(s, text, len);
	else
		reg_sketch_check(lrn_sketch_add_text(s, NULL, 0, 1));
}

Datum
millrace_sketch_add_text(PG_FUNCTION_ARGS)
{
	MemoryContext cxt;
	sketch_state *state = get_state(fcinfo, &cxt);

	if (PG_ARGISNULL(1))
		add_category(state, cxt, NULL, 0);
	else
	{
		text	   *t = PG_GETARG_TEXT_PP(1);

		add_category(state, cxt, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
		PG_FREE_IF_COPY(t, 1);
	}
	PG_RETURN_POINTER(state);
}

Datum
millrace_sketch_add_boolean(PG_FUNCTION_ARGS)
{
	MemoryContext cxt;
	sketch_state *state = get_state(fcinfo, &cxt);

	if (PG_ARGISNULL(1))
		add_category(state, cxt, NULL, 0);
	else if (PG_GETARG_BOOL(1))
		add_category(state, cxt, "true", 4);
	else
		add_category(state, cxt, "false", 5);
	PG_RETURN_POINTER(state);
}

static void
join(sketch_state *state, MemoryContext cxt, const lrn_sketch *other)
{
	flush(state, cxt);
	reg_sketch_merge(state_sketch(state, cxt, lrn_sketch_kind_of(other)), other);
}

Datum
millrace_sketch_add_sketch(PG_FUNCTION_ARGS)
{
	MemoryContext cxt;
	sketch_state *state = get_state(fcinfo, &cxt);

	if (!PG_ARGISNULL(1))
	{
		mr_env		env = mr_pg_env(CurrentMemoryContext);
		lrn_sketch *other = reg_sketch_from_datum(&env, PG_GETARG_DATUM(1));

		join(state, cxt, other);
		lrn_sketch_free(other);
	}
	PG_RETURN_POINTER(state);
}

Datum
millrace_sketch_combine(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = aggregate_context(fcinfo);
	sketch_state *into,
			   *other;

	if (PG_ARGISNULL(1))
	{
		if (PG_ARGISNULL(0))
			PG_RETURN_NULL();
		PG_RETURN_POINTER(PG_GETARG_POINTER(0));
	}
	into = get_state(fcinfo, &cxt);
	other = (sketch_state *) PG_GETARG_POINTER(1);
	if (other->sketch)
		join(into, cxt, other->sketch);
	for (int i = 0; i < other->n; i++)
	{
		if (into->n == PENDING)
			flush(into, cxt);
		into->pending[into->n++] = other->pending[i];
	}
	PG_RETURN_POINTER(into);
}

/* Of no rows: no bytes. */
Datum
millrace_sketch_serialize(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = aggregate_context(fcinfo);
	sketch_state *state = (sketch_state *) PG_GETARG_POINTER(0);

	flush(state, cxt);
	PG_RETURN_BYTEA_P(state->sketch ? (bytea *) reg_sketch_to_datum(state->sketch) : (bytea *) to_varlena(NULL, 0));
}

Datum
millrace_sketch_deserialize(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = aggregate_context(fcinfo);
	bytea	   *b = PG_GETARG_BYTEA_PP(0);
	sketch_state *state = MemoryContextAllocZero(cxt, sizeof(sketch_state));
	mr_env		env = mr_pg_env(cxt);

	if (VARSIZE_ANY_EXHDR(b) > 0)
		state->sketch = from_bytes(&env, VARDATA_ANY(b), VARSIZE_ANY_EXHDR(b));
	PG_RETURN_POINTER(state);
}

Datum
millrace_sketch_final(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = aggregate_context(fcinfo);
	sketch_state *state = PG_ARGISNULL(0) ? NULL : (sketch_state *) PG_GETARG_POINTER(0);

	if (state)
		flush(state, cxt);
	if (state == NULL || state->sketch == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(reg_sketch_to_datum(state->sketch));
}

/* ---- one sketch ---- */

static lrn_sketch *
get_sketch(FunctionCallInfo fcinfo, int argument)
{
	mr_env		env = mr_pg_env(CurrentMemoryContext);

	return reg_sketch_from_datum(&env, PG_GETARG_DATUM(argument));
}

Datum
millrace_sketch_merge(PG_FUNCTION_ARGS)
{
	lrn_sketch *into = get_sketch(fcinfo, 0);

	reg_sketch_merge(into, get_sketch(fcinfo, 1));
	PG_RETURN_POINTER(reg_sketch_to_datum(into));
}

static double
quantile_of(const lrn_sketch *s, double q)
{
	double		value;

	reg_sketch_check(lrn_sketch_quantile(s, q, &value));
	return value;
}

Datum
millrace_sketch_quantile(PG_FUNCTION_ARGS)
{
	lrn_sketch *s = get_sketch(fcinfo, 0);
	double		q = PG_GETARG_FLOAT8(1);
	double		value;

	if (!(q >= 0 && q <= 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("quantile %g is not between 0 and 1", q)));
	if (lrn_sketch_kind_of(s) != LRN_SKETCH_NUMBER)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a sketch of categories has no quantiles")));
	value = quantile_of(s, q);
	if (isnan(value))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(value);
}

static void
put_float(Datum *values, bool *nulls, int i, double x)
{
	values[i] = Float8GetDatum(x);
	nulls[i] = isnan(x);
}

static Datum
form_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

Datum
millrace_sketch_describe(PG_FUNCTION_ARGS)
{
	lrn_sketch *s = get_sketch(fcinfo, 0);
	bool		number = lrn_sketch_kind_of(s) == LRN_SKETCH_NUMBER;
	lrn_sketch_info f;
	Datum		values[14];
	bool		nulls[14] = {0};

	lrn_sketch_describe(s, &f);
	values[0] = CStringGetTextDatum(number ? "number" : "category");
	values[1] = Int64GetDatum(f.count + f.missing);
	values[2] = Int64GetDatum(f.missing);
	values[3] = Int64GetDatum(f.infinite);
	nulls[3] = !number;
	put_float(values, nulls, 4, f.min);
	for (int i = 1; i <= 3; i++)
		put_float(values, nulls, 4 + i, number ? quantile_of(s, i / 4.0) : NAN);
	put_float(values, nulls, 8, f.max);
	put_float(values, nulls, 9, f.mean);
	put_float(values, nulls, 10, f.sd);
	values[11] = Int64GetDatum(f.distinct);
	nulls[11] = number;
	values[12] = BoolGetDatum(f.exact);
	put_float(values, nulls, 13, number ? f.rank_error : NAN);
	PG_RETURN_DATUM(form_row(fcinfo, values, nulls));
}

typedef struct category
{
	const char *text;
	int			len;
	int64		count;
} category;

static int
by_count(const void *a, const void *b)
{
	const category *x = a,
			   *y = b;
	int			order = memcmp(x->text, y->text, Min(x->len, y->len));

	if (x->count != y->count)
		return x->count > y->count ? -1 : 1;
	return order ? order : x->len - y->len;
}

Datum
millrace_sketch_categories(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	lrn_sketch *s = get_sketch(fcinfo, 0);
	category   *list;
	int			n = 0;
	lrn_sketch_info f;

	InitMaterializedSRF(fcinfo, 0);
	lrn_sketch_describe(s, &f);
	list = palloc((f.distinct + 1) * sizeof(category));
	while (lrn_sketch_category(s, n, &list[n].text, &list[n].len, &list[n].count))
		n++;
	qsort(list, n, sizeof(category), by_count);
	for (int i = 0; i < n; i++)
	{
		Datum		values[2] = {PointerGetDatum(cstring_to_text_with_len(list[i].text, list[i].len)),
		Int64GetDatum(list[i].count)};
		bool		nulls[2] = {false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* ---- two sketches ---- */

static void
compare(FunctionCallInfo fcinfo, lrn_drift *d)
{
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st;

	if (lrn_drift_compare(&env, get_sketch(fcinfo, 0), get_sketch(fcinfo, 1),
						  PG_NARGS() > 2 ? PG_GETARG_INT32(2) : LRN_DRIFT_BINS, d, &st) != MR_OK)
		mr_pg_raise(&st);
}

static Datum
test_result(FunctionCallInfo fcinfo, double statistic, double p, int df)
{
	Datum		values[3];
	bool		nulls[3];

	put_float(values, nulls, 0, statistic);
	put_float(values, nulls, 1, p);
	values[2] = Int32GetDatum(df);
	nulls[2] = df <= 0;
	return form_row(fcinfo, values, nulls);
}

Datum
millrace_drift_psi(PG_FUNCTION_ARGS)
{
	lrn_drift	d;

	compare(fcinfo, &d);
	if (isnan(d.psi))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(d.psi);
}

Datum
millrace_drift_jensen_shannon(PG_FUNCTION_ARGS)
{
	lrn_drift	d;

	compare(fcinfo, &d);
	if (isnan(d.js))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(d.js);
}

Datum
millrace_drift_ks(PG_FUNCTION_ARGS)
{
	lrn_drift	d;

	compare(fcinfo, &d);
	PG_RETURN_DATUM(test_result(fcinfo, d.ks, d.ks_p, 0));
}

Datum
millrace_drift_mann_whitney(PG_FUNCTION_ARGS)
{
	lrn_drift	d;

	compare(fcinfo, &d);
	PG_RETURN_DATUM(test_result(fcinfo, d.shift, d.shift_p, 0));
}

Datum
millrace_drift_chi2(PG_FUNCTION_ARGS)
{
	lrn_drift	d;

	compare(fcinfo, &d);
	PG_RETURN_DATUM(test_result(fcinfo, d.chi2, d.chi2_p, d.chi2_df));
}

Datum
millrace_drift_figures(PG_FUNCTION_ARGS)
{
	lrn_drift	d;
	Datum		values[16];
	bool		nulls[16];

	compare(fcinfo, &d);
	put_float(values, nulls, 0, d.psi);
	put_float(values, nulls, 1, d.js);
	put_float(values, nulls, 2, d.ks);
	put_float(values, nulls, 3, d.ks_p);
	put_float(values, nulls, 4, d.shift);
	put_float(values, nulls, 5, d.shift_p);
	put_float(values, nulls, 6, d.mean_shift);
	put_float(values, nulls, 7, d.sd_ratio);
	put_float(values, nulls, 8, d.chi2);
	put_float(values, nulls, 9, d.chi2_p);
	values[10] = Int32GetDatum(d.chi2_df);
	nulls[10] = isnan(d.chi2);
	put_float(values, nulls, 11, d.missing[1]);
	put_float(values, nulls, 12, d.missing[0]);
	put_float(values, nulls, 13, d.missing_p);
	put_float(values, nulls, 14, d.new_share);
	put_float(values, nulls, 15, d.new_p);
	PG_RETURN_DATUM(form_row(fcinfo, values, nulls));
}
