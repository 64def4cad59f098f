/*
 * detect_pg.c
 *	  detect(), detect_rows() and detections_json().
 *
 * registry/detect_pg.c runs the network, the pure files of this room read what it
 * said.  Memory: candidates in the current context, one image at a time.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "common/shortest_dec.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "quality/cache_pg.h"
#include "quality/detect_pg.h"
#include "quality/head.h"
#include "registry/detect.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(millrace_detect);
PG_FUNCTION_INFO_V1(millrace_detect_rows);
PG_FUNCTION_INFO_V1(millrace_detections_json);

#define DETECTION_COLUMNS 7

/* ---- an image ---- */

/* The head of a network's output; raises if it has none. */
static void
find_head(const reg_model *m, const reg_seen *seen, qlt_head *head)
{
	const nn_tensor_info *t = seen->output;
	mr_status	st = {0};

	if (qlt_find_head(t->dims, t->rank, seen->box.width, seen->box.height, m->n_labels, head, &st) != MR_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" is not a detector", m->reference),
				 errdetail("Output \"%s\": %s.", t->name, st.message),
				 st.hint[0] ? errhint("%s", st.hint) : 0));
	if (head->layout == qlt_final)
		head->n_boxes = (int) seen->shape.dims[seen->shape.rank - 2];
}

/* What a cached answer is kept under. */
static void
make_key(const reg_model *m, const uint8 *image, size_t size, const qlt_question *q, uint8 key[QLT_KEY_SIZE])
{
	double		asked[4] = {q->confidence, q->iou, q->nms, q->max_detections};

	reg_question_key(m, image, size, asked, sizeof(asked), key);
}

static mr_code
look(const reg_model *m, const uint8 *image, size_t size, const qlt_question *q, qlt_answer *out, mr_status *st)
{
	mr_env		env = mr_pg_env(NULL);
	reg_seen	seen;
	qlt_head	head;
	mr_code		code = reg_see(m, image, size, &seen, st);

	if (code != MR_OK)
		return code;
	find_head(m, &seen, &head);
	if (qlt_read_head(&env, &head, seen.numbers, q->confidence, &out->d, &out->n, st) != MR_OK ||
		qlt_nms(&env, out->d, &out->n, head.layout == qlt_final ? qlt_nms_none : q->nms, q->iou, q->confidence,
				q->max_detections, st) != MR_OK)
		mr_pg_raise(st);
	qlt_to_image(&seen.box, out->d, out->n);
	out->width = seen.box.src_w;
	out->height = seen.box.src_h;
	return MR_OK;
}

mr_code
qlt_detect(const reg_model *m, const uint8 *image, size_t size, const qlt_question *q, qlt_answer *out, mr_status *st)
{
	bool		cached = qlt_cache_wanted();
	uint8		key[QLT_KEY_SIZE];
	mr_code		code;

	if (cached)
	{
		make_key(m, image, size, q, key);
		if (qlt_cache_find(key, out))
			return MR_OK;
	}
	code = look(m, image, size, q, out, st);
	if (cached && code == MR_OK)
		qlt_cache_keep(key, out);
	return code;
}

/* ---- arguments ---- */

static double
share_argument(FunctionCallInfo fcinfo, int argno, const char *name, double absent)
{
	double		v = PG_ARGISNULL(argno) ? absent : PG_GETARG_FLOAT8(argno);

	if (!(v >= 0 && v <= 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be between 0 and 1, not %g", name, v)));
	return v;
}

/* The arguments from confidence on; those that a function lacks have their defaults. */
static qlt_question
question_of(FunctionCallInfo fcinfo)
{
	qlt_question q = {.nms = qlt_nms_class,.max_detections = 300};

	q.confidence = (float) share_argument(fcinfo, 2, "confidence", 0.25);
	q.iou = share_argument(fcinfo, 3, "iou", 0.45);
	if (PG_NARGS() > 4 && !PG_ARGISNULL(4))
	{
		char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(4));

		if (!qlt_nms_by_name(name, &q.nms))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unknown non-maximum suppression \"%s\"", name),
					 errhint("Use \"class\", \"agnostic\", \"soft\" or \"none\".")));
	}
	if (PG_NARGS() > 5 && !PG_ARGISNULL(5))
		q.max_detections = PG_GETARG_INT32(5);
	if (q.max_detections < 1 || q.max_detections > QLT_MAX_CANDIDATES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_detections must be between 1 and %d, not %d", QLT_MAX_CANDIDATES, q.max_detections)));
	return q;
}

/* ---- answers as SQL ---- */

static text *
class_name(const reg_model *m, int class_id)
{
	if (class_id < m->n_labels)
		return m->label_texts[class_id];
	return cstring_to_text(psprintf("class%d", class_id));
}

static void
fill_detection(const reg_model *m, const qlt_detection *d, Datum *values)
{
	values[0] = Int32GetDatum(d->class_id);
	values[1] = PointerGetDatum(class_name(m, d->class_id));
	values[2] = Float4GetDatum(d->score);
	values[3] = Float4GetDatum(d->box.x1);
	values[4] = Float4GetDatum(d->box.y1);
	values[5] = Float4GetDatum(d->box.x2);
	values[6] = Float4GetDatum(d->box.y2);
}

/* detect(image, model, confidence, iou, nms, max_detections) -> setof millrace.detection */
Datum
millrace_detect(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum		values[DETECTION_COLUMNS];
	bool		nulls[DETECTION_COLUMNS] = {false};
	const reg_model *m;
	qlt_question q;
	qlt_answer	a;
	bytea	   *image;
	mr_status	st;

	InitMaterializedSRF(fcinfo, 0);
	m = reg_resolve_arg(fcinfo, 1, REG_DETECT);
	q = question_of(fcinfo);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	image = PG_GETARG_BYTEA_PP(0);
	if (qlt_detect(m, (const uint8 *) VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image), &q, &a, &st) != MR_OK)
		mr_pg_raise(&st);
	for (int i = 0; i < a.n; i++)
	{
		fill_detection(m, &a.d[i], values);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* Detections as an array of the composite type. */
static Datum
detection_array(const reg_model *m, const qlt_answer *a, Oid type)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);
	Datum	   *rows = palloc(sizeof(Datum) * Max(a->n, 1));
	Datum		values[DETECTION_COLUMNS];
	bool		nulls[DETECTION_COLUMNS] = {false};

	for (int i = 0; i < a->n; i++)
	{
		fill_detection(m, &a->d[i], values);
		rows[i] = HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
	}
	ReleaseTupleDesc(desc);
	return PointerGetDatum(construct_array(rows, a->n, type, -1, false, TYPALIGN_DOUBLE));
}

/* detect_rows(images bytea[], model, ...) -> setof (image, detections, sqlstate, message), in order */
Datum
millrace_detect_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const reg_model *m;
	qlt_question q;
	MemoryContext per_image;
	ArrayIterator it;
	Oid			type;
	Datum		image;
	bool		isnull;
	int			number = 0;

	InitMaterializedSRF(fcinfo, 0);
	m = reg_resolve_arg(fcinfo, 1, REG_DETECT);
	q = question_of(fcinfo);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	type = get_element_type(TupleDescAttr(rsinfo->setDesc, 1)->atttypid);
	per_image = AllocSetContextCreate(CurrentMemoryContext, "millrace image row", ALLOCSET_DEFAULT_SIZES);
	it = array_create_iterator(PG_GETARG_ARRAYTYPE_P(0), 0, NULL);
	while (array_iterate(it, &image, &isnull))
	{
		MemoryContext old = MemoryContextSwitchTo(per_image);
		Datum		values[4] = {Int32GetDatum(++number)};
		bool		nulls[4] = {false, true, true, true};

		if (!isnull)
		{
			bytea	   *bytes = DatumGetByteaPP(image);
			qlt_answer	a;
			mr_status	st;
			mr_code		code = qlt_detect(m, (const uint8 *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), &q, &a, &st);

			if (code == MR_OK)
				values[1] = detection_array(m, &a, type);
			else
			{
				values[2] = CStringGetTextDatum(unpack_sql_state(mr_pg_sqlstate(code)));
				values[3] = CStringGetTextDatum(st.message);
			}
			nulls[1] = code != MR_OK;
			nulls[2] = nulls[3] = code == MR_OK;
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_image);
		CHECK_FOR_INTERRUPTS();
	}
	array_free_iterator(it);
	MemoryContextDelete(per_image);
	return (Datum) 0;
}

/* ---- JSON ---- */

static void
push_key(JsonbParseState **state, const char *key)
{
	JsonbValue	k = {.type = jbvString};

	k.val.string.val = unconstify(char *, key);
	k.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &k);
}

static void
push_number(JsonbParseState **state, const char *key, char *number)
{
	JsonbValue	v = {.type = jbvNumeric};

	push_key(state, key);
	v.val.numeric = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(number),
														ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	pushJsonbValue(state, WJB_VALUE, &v);
}

static void
push_int(JsonbParseState **state, const char *key, int n)
{
	push_number(state, key, psprintf("%d", n));
}

static void
push_real(JsonbParseState **state, const char *key, float f)
{
	char		text[FLOAT_SHORTEST_DECIMAL_LEN];

	float_to_shortest_decimal_buf(f, text);
	push_number(state, key, text);
}

static void
push_detection(JsonbParseState **state, const reg_model *m, const qlt_detection *d)
{
	text	   *name = class_name(m, d->class_id);
	JsonbValue	v = {.type = jbvString};

	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	push_int(state, "class_id", d->class_id);
	push_key(state, "class_name");
	v.val.string.val = VARDATA_ANY(name);
	v.val.string.len = VARSIZE_ANY_EXHDR(name);
	pushJsonbValue(state, WJB_VALUE, &v);
	push_real(state, "confidence", d->score);
	push_key(state, "bbox");
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	push_real(state, "x1", d->box.x1);
	push_real(state, "y1", d->box.y1);
	push_real(state, "x2", d->box.x2);
	push_real(state, "y2", d->box.y2);
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

/* detections_json(image, model, confidence, iou) -> jsonb */
Datum
millrace_detections_json(PG_FUNCTION_ARGS)
{
	const reg_model *m = reg_resolve_arg(fcinfo, 1, REG_DETECT);
	qlt_question q = question_of(fcinfo);
	JsonbParseState *state = NULL;
	bytea	   *image;
	qlt_answer	a;
	mr_status	st;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	image = PG_GETARG_BYTEA_PP(0);
	if (qlt_detect(m, (const uint8 *) VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image), &q, &a, &st) != MR_OK)
		mr_pg_raise(&st);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_key(&state, "detections");
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < a.n; i++)
		push_detection(&state, m, &a.d[i]);
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	push_int(&state, "count", a.n);
	push_key(&state, "image_shape");
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_int(&state, "width", a.width);
	push_int(&state, "height", a.height);
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	PG_RETURN_JSONB_P(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}
