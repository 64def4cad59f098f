/*
 * facts_pg.c
 *	  image_facts(), image_hash(), image_quality(): what an image's pixels say.
 *
 * Each call works in a memory context of its own, deleted before it returns;
 * on ERROR it goes with its parent.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "image/facts.h"
#include "image/image_pg.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(millrace_image_facts);
PG_FUNCTION_INFO_V1(millrace_image_hash);
PG_FUNCTION_INFO_V1(millrace_hash_distance);
PG_FUNCTION_INFO_V1(millrace_image_quality);

/* Columns of millrace.image_facts, in the order of types_look.sql. */
enum
{
	col_sqlstate, col_message, col_format, col_width, col_height, col_channels, col_orientation,
	col_pixel_sha256, col_hashes, col_brightness, col_dark_share, col_bright_share, col_contrast,
	col_sharpness, col_entropy, col_colourfulness, col_black_corners, col_repeated, col_thumbnail,
	n_cols
};

/* Memory for one image; left and deleted together. */
typedef struct workspace
{
	MemoryContext cxt;
	MemoryContext caller;
	mr_env		env;
} workspace;

static workspace
enter(void)
{
	workspace	w;

	w.cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace image", ALLOCSET_DEFAULT_SIZES);
	w.caller = MemoryContextSwitchTo(w.cxt);
	w.env = mr_pg_env(w.cxt);
	return w;
}

static void
leave(const workspace *w)
{
	MemoryContextSwitchTo(w->caller);
	MemoryContextDelete(w->cxt);
}

mr_code
img_decode_value(const mr_env *env, Datum image, img_info *info, img_pixels *pixels, mr_status *st)
{
	const img_limits *limits = img_current_limits();
	Size		size = toast_raw_datum_size(image) - VARHDRSZ;
	bytea	   *bytes;
	mr_code		code = MR_OK;

	if (size > limits->max_bytes)
	{
		mr_fail(st, MR_INVALID, "image file of %zu bytes is too large", size);
		mr_detail(st, "At most %zu bytes are allowed.", limits->max_bytes);
		mr_hint(st, "A superuser can raise millrace.image_max_bytes.");
		return MR_INVALID;
	}
	bytes = DatumGetByteaPP(image);
	if (info)
		code = img_probe(env, (uint8_t *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), limits, info, st);
	if (code == MR_OK)
		code = img_decode(env, (uint8_t *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), limits, 0, 0, pixels, st);
	return code;
}

static TupleDesc
result_row(FunctionCallInfo fcinfo)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return BlessTupleDesc(desc);
}

static Datum
bytea_of(const uint8_t *data, size_t len)
{
	bytea	   *b = palloc(VARHDRSZ + len);

	SET_VARSIZE(b, VARHDRSZ + len);
	memcpy(VARDATA(b), data, len);
	return PointerGetDatum(b);
}

static Datum
bigints_of(const uint64_t *v, int n)
{
	Datum		d[8];

	Assert(n <= 8);
	for (int i = 0; i < n; i++)
		d[i] = Int64GetDatum((int64) v[i]);
	return PointerGetDatum(construct_array(d, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static Datum
reals_of(const float *v, int n)
{
	Datum		d[IMG_THUMB_LEN];

	Assert(n <= IMG_THUMB_LEN);
	for (int i = 0; i < n; i++)
		d[i] = Float4GetDatum(v[i]);
	return PointerGetDatum(construct_array(d, n, FLOAT4OID, sizeof(float4), true, TYPALIGN_INT));
}

/* image_facts(image bytea) -> millrace.image_facts; a bad image is sqlstate and message */
Datum
millrace_image_facts(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = result_row(fcinfo);
	workspace	w = enter();
	mr_status	st;
	mr_code		code;
	img_info	info;
	img_pixels	pixels;
	img_facts	f;
	Datum		v[n_cols];
	bool		nulls[n_cols];

	code = img_decode_value(&w.env, PG_GETARG_DATUM(0), &info, &pixels, &st);
	if (code == MR_OK)
		code = img_facts_of(&w.env, &pixels, &f, &st);
	if (code != MR_OK && code != MR_INVALID)
		mr_pg_raise(&st);		/* memory or a cancel: not the image's fault */
	leave(&w);

	memset(nulls, code != MR_OK, sizeof(nulls));
	nulls[col_sqlstate] = nulls[col_message] = code == MR_OK;
	if (code != MR_OK)
	{
		v[col_sqlstate] = CStringGetTextDatum(unpack_sql_state(mr_pg_sqlstate(code)));
		v[col_message] = CStringGetTextDatum(st.detail[0] ? psprintf("%s: %s", st.message, st.detail) : st.message);
	}
	else
	{
		v[col_format] = CStringGetTextDatum(info.format);
		v[col_width] = Int32GetDatum(pixels.width);
		v[col_height] = Int32GetDatum(pixels.height);
		v[col_channels] = Int32GetDatum(f.grey ? 1 : 3);
		v[col_orientation] = Int32GetDatum(info.orientation);
		v[col_pixel_sha256] = bytea_of(f.digest, sizeof(f.digest));
		v[col_hashes] = bigints_of(f.hash, lengthof(f.hash));
		v[col_brightness] = Float4GetDatum(f.figures.brightness);
		v[col_dark_share] = Float4GetDatum(f.figures.dark_share);
		v[col_bright_share] = Float4GetDatum(f.figures.bright_share);
		v[col_contrast] = Float4GetDatum(f.figures.contrast);
		v[col_sharpness] = Float4GetDatum(f.sharpness);
		v[col_entropy] = Float4GetDatum(f.figures.entropy);
		v[col_colourfulness] = Float4GetDatum(f.figures.colourfulness);
		v[col_black_corners] = Float4GetDatum(f.black_corners);
		v[col_repeated] = Float4GetDatum(f.repeated);
		v[col_thumbnail] = reals_of(f.thumbnail, IMG_THUMB_LEN);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, v, nulls)));
}

/* image_hash(image bytea) -> bigint: the first of image_facts().hashes */
Datum
millrace_image_hash(PG_FUNCTION_ARGS)
{
	workspace	w = enter();
	mr_status	st;
	img_pixels	pixels;
	img_pixels	small;
	uint64_t	hash[8];

	if (img_decode_value(&w.env, PG_GETARG_DATUM(0), NULL, &pixels, &st) != MR_OK ||
		img_small(&w.env, &pixels, &small, &st) != MR_OK ||
		img_hash(&w.env, &small, hash, &st) != MR_OK)
		mr_pg_raise(&st);
	leave(&w);
	PG_RETURN_INT64((int64) hash[0]);
}

/* hash_distance(a bigint, b bigint) -> int: bits in which they differ */
Datum
millrace_hash_distance(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(img_hash_distance((uint64_t) PG_GETARG_INT64(0), (uint64_t) PG_GETARG_INT64(1)));
}

/* image_quality(image bytea) -> (brightness, contrast, sharpness, entropy, aspect_ratio, colourfulness) */
Datum
millrace_image_quality(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = result_row(fcinfo);
	workspace	w = enter();
	mr_status	st;
	img_pixels	pixels;
	img_figures f;
	float		sharpness;
	Datum		v[6];
	bool		nulls[6] = {false};

	if (img_decode_value(&w.env, PG_GETARG_DATUM(0), NULL, &pixels, &st) != MR_OK ||
		img_figures_of(&w.env, &pixels, &f, &st) != MR_OK ||
		img_sharpness(&w.env, &pixels, &sharpness, &st) != MR_OK)
		mr_pg_raise(&st);
	leave(&w);
	v[0] = Float4GetDatum(f.brightness);
	v[1] = Float4GetDatum(f.contrast);
	v[2] = Float4GetDatum(sharpness);
	v[3] = Float4GetDatum(f.entropy);
	v[4] = Float4GetDatum((float) pixels.width / (float) pixels.height);
	v[5] = Float4GetDatum(f.colourfulness);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, v, nulls)));
}
