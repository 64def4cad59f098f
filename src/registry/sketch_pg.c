/*
 * sketch_pg.c
 *	  The type millrace.sketch and its aggregate.
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
