/*
 * image_pg.c
 *	  The image room's settings and SQL functions.
 *
 * Each call works in a memory context of its own, deleted before it returns;
 * on ERROR it goes with its parent.
 */
#include "postgres.h"

#include <limits.h>

#include "access/htup_details.h"
#include "access/detoast.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "image/image.h"
#include "image/image_pg.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(millrace_image_info);
PG_FUNCTION_INFO_V1(millrace_image_resize);

/* Bytes that hold the header of nearly every file: EXIF is at most 64 kB. */
#define HEADER_SLICE (128 * 1024)

static int	image_max_bytes;
static int	image_max_pixels;
static int	image_max_side;
static int	image_max_scans;
static int	image_max_chunks;

void
image_init(void)
{
	const img_limits def = IMG_DEFAULT_LIMITS;

	DefineCustomIntVariable("millrace.image_max_bytes",
							"Largest image file that is looked at.",
							"Larger ones are an error before anything is decoded.",
							&image_max_bytes, (int) def.max_bytes, 1024, MaxAllocSize,
							PGC_SUSET, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.image_max_pixels",
							"Most pixels an image may have, when read and when made.",
							"Decoding needs up to 9 bytes of memory a pixel.",
							&image_max_pixels, (int) def.max_pixels, 1, INT_MAX,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.image_max_side",
							"Largest width and height of an image in pixels.",
							NULL,
							&image_max_side, def.max_side, 1, 65500,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.image_max_scans",
							"Most scans a progressive JPEG image may have.",
							"Each scan costs time for the whole image, however few bytes it has.",
							&image_max_scans, def.max_scans, 1, 10000,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.image_max_chunks",
							"Most chunks a PNG image may have.",
							NULL,
							&image_max_chunks, def.max_chunks, 3, INT_MAX,
							PGC_SUSET, 0, NULL, NULL, NULL);
	image_look_init();
}

const img_limits *
img_current_limits(void)
{
	static img_limits limits;

	limits.max_bytes = (size_t) image_max_bytes;
	limits.max_pixels = (uint64_t) image_max_pixels;
	limits.max_side = image_max_side;
	limits.max_scans = image_max_scans;
	limits.max_chunks = image_max_chunks;
	return &limits;
}

/* The size limit, checked before a large value is fetched from TOAST. */
static void
check_raw_size(Datum image)
{
	Size		size = toast_raw_datum_size(image) - VARHDRSZ;

	if (size > (Size) image_max_bytes)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("image file of %zu bytes is too large", size),
				 errdetail("At most %d bytes are allowed.", image_max_bytes),
				 errhint("A superuser can raise millrace.image_max_bytes.")));
}

/*
 * image_info(image bytea) -> (format, width, height, channels, bit_depth, orientation)
 *
 * Reads the header only.  Of a large value the first slice is fetched; the
 * whole only if the header goes on behind it.
 */
Datum
millrace_image_info(PG_FUNCTION_ARGS)
{
	Datum		image = PG_GETARG_DATUM(0);
	MemoryContext cxt;
	MemoryContext old;
	TupleDesc	desc;
	bytea	   *bytes;
	mr_env		env;
	mr_status	st;
	mr_code		code;
	img_info	info;
	Datum		values[6];
	bool		nulls[6] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	check_raw_size(image);

	cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace image", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(cxt);
	env = mr_pg_env(cxt);
	bytes = DatumGetByteaPSlice(image, 0, HEADER_SLICE);
	code = img_probe(&env, (uint8_t *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes),
					 img_current_limits(), &info, &st);
	if (code == MR_INVALID && toast_raw_datum_size(image) - VARHDRSZ > HEADER_SLICE)
	{
		bytes = DatumGetByteaPP(image);
		code = img_probe(&env, (uint8_t *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes),
						 img_current_limits(), &info, &st);
	}
	if (code != MR_OK)
		mr_pg_raise(&st);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);

	values[0] = CStringGetTextDatum(info.format);
	values[1] = Int32GetDatum(info.width);
	values[2] = Int32GetDatum(info.height);
	values[3] = Int32GetDatum(info.channels);
	values[4] = Int32GetDatum(info.bit_depth);
	values[5] = Int32GetDatum(info.orientation);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* image_resize(image bytea, width int, height int, fit text, format text, quality int) -> bytea */
Datum
millrace_image_resize(PG_FUNCTION_ARGS)
{
	Datum		image = PG_GETARG_DATUM(0);
	int			width = PG_GETARG_INT32(1);
	int			height = PG_GETARG_INT32(2);
	char	   *fit_name = text_to_cstring(PG_GETARG_TEXT_PP(3));
	char	   *format = text_to_cstring(PG_GETARG_TEXT_PP(4));
	int			quality = PG_GETARG_INT32(5);
	bool		png = strcmp(format, "png") == 0;
	img_fit_mode fit;
	MemoryContext cxt;
	MemoryContext old;
	bytea	   *bytes;
	bytea	   *result;
	mr_env		env;
	mr_status	st;
	img_pixels	pixels;
	uint8_t    *file;
	size_t		len;

	/* resize_crop is for networks: its shorter side is a model's setting */
	if (!img_fit_by_name(fit_name, &fit) || fit == img_fit_resize_crop)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown image fit \"%s\"", fit_name),
				 errhint("Use \"contain\" (whole image, black bars), \"cover\" (centre crop) or \"stretch\".")));
	if (!png && strcmp(format, "jpeg") != 0 && strcmp(format, "jpg") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown image format \"%s\"", format),
				 errhint("Use \"jpeg\" or \"png\".")));
	if (quality < 1 || quality > 100)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("JPEG quality %d is not between 1 and 100", quality)));
	if (width < 1 || height < 1 || width > image_max_side || height > image_max_side)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot make an image of %d x %d pixels", width, height),
				 errhint("Width and height must be between 1 and %d.", image_max_side)));
	check_raw_size(image);

	cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace image", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(cxt);
	env = mr_pg_env(cxt);
	bytes = DatumGetByteaPP(image);
	if (img_decode_fit(&env, (uint8_t *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes),
					   img_current_limits(), width, height, fit, 0, img_lanczos, 0,
					   &pixels, &st) != MR_OK ||
		(png ? img_encode_png(&env, &pixels, &file, &len, &st)
		 : img_encode_jpeg(&env, &pixels, quality, &file, &len, &st)) != MR_OK)
		mr_pg_raise(&st);
	MemoryContextSwitchTo(old);
	if (len > MaxAllocSize - VARHDRSZ)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("resized image of %zu bytes does not fit in a value", len)));
	result = palloc(len + VARHDRSZ);
	SET_VARSIZE(result, len + VARHDRSZ);
	memcpy(VARDATA(result), file, len);
	MemoryContextDelete(cxt);
	PG_RETURN_BYTEA_P(result);
}
