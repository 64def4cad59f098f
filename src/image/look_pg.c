/*
 * look_pg.c
 *	  image_annotate() and image_sheet(): pictures for people.
 *
 * Each call works in a memory context of its own, deleted before it returns;
 * on ERROR it goes with its parent, and with it FreeType's memory.  Texts are
 * converted to UTF-8, whatever the database's encoding.
 */
#include "postgres.h"

#include <math.h>

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "image/draw.h"
#include "image/image_pg.h"
#include "image/image_private.h"
#include "image/look_pg.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"
#include "utils/varlena.h"

PG_FUNCTION_INFO_V1(millrace_image_annotate);
PG_FUNCTION_INFO_V1(millrace_image_sheet);

/* Where Debian has DejaVu (Latin, Greek, Cyrillic) and Noto (Chinese, Japanese, Korean). */
#define DEFAULT_FONTS \
	"/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf, " \
	"/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc, " \
	"/usr/share/fonts/truetype/noto/NotoSans-Regular.ttf"

static char *font_files;

static bool
check_fonts(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	List	   *list;

	if (SplitDirectoriesString(copy, ',', &list))
		return true;
	GUC_check_errdetail("List syntax is invalid.");
	return false;
}

void
image_look_init(void)
{
	DefineCustomStringVariable("millrace.fonts",
							   "Font files for labels and captions.",
							   "In the order in which they are asked for a character; those that are not there are passed over.",
							   &font_files, DEFAULT_FONTS, PGC_SUSET, GUC_LIST_INPUT,
							   check_fonts, NULL, NULL);
}

static img_font *
open_fonts(const mr_env *env)
{
	const char *files[16];
	int			n = 0;
	List	   *list;
	ListCell   *lc;
	img_font   *font;
	mr_status	st;

	SplitDirectoriesString(pstrdup(font_files), ',', &list);
	foreach(lc, list)
		if (n < (int) lengthof(files))
			files[n++] = lfirst(lc);
	if (img_font_open(env, files, n, &font, &st) != MR_OK)
		mr_pg_raise(&st);
	if (!img_font_usable(font))
		ereport(WARNING,
				(errmsg("no font can be opened, letters are drawn as empty boxes"),
				 errhint("Install a font (Debian: fonts-dejavu-core), or let a superuser name one in millrace.fonts.")));
	return font;
}

/* Bytes of a text in UTF-8. */
static const char *
to_utf8(const char *s, int len, size_t *out_len)
{
	char	   *utf8;

	/* bytes of no known encoding are drawn as far as they are UTF-8 */
	if (GetDatabaseEncoding() == PG_SQL_ASCII)
	{
		*out_len = (size_t) len;
		return s;
	}
	utf8 = pg_server_to_any(s, len, PG_UTF8);
	*out_len = utf8 == s ? (size_t) len : strlen(utf8);
	return utf8;
}

/* "person 0.87", "person", "3 0.87" or "3" */
static void
make_label(img_object *o, const char *name, int name_len, bool has_confidence, float confidence)
{
	StringInfoData s;

	initStringInfo(&s);
	if (name)
		appendBinaryStringInfo(&s, name, name_len);
	else
		appendStringInfo(&s, "%d", o->class_id);
	if (has_confidence)
		appendStringInfo(&s, " %.2f", confidence);
	o->label = to_utf8(s.data, s.len, &o->label_len);
}

/* millrace.detection[] to objects; a box with a NULL is passed over when drawn. */
static img_object *
objects_of_array(ArrayType *array, const look_options *opt, int *n)
{
	int16		len;
	bool		by_value;
	char		align;
	Datum	   *elems;
	bool	   *nulls;
	img_object *objects;
	TupleDesc	desc = lookup_rowtype_tupdesc(ARR_ELEMTYPE(array), -1);
	Datum	   *v = palloc(sizeof(Datum) * desc->natts);
	bool	   *isnull = palloc(sizeof(bool) * desc->natts);

	get_typlenbyvalalign(ARR_ELEMTYPE(array), &len, &by_value, &align);
	deconstruct_array(array, ARR_ELEMTYPE(array), len, by_value, align, &elems, &nulls, n);
	objects = palloc0(sizeof(img_object) * (*n > 0 ? *n : 1));
	for (int i = 0; i < *n; i++)
	{
		img_object *o = &objects[i];
		HeapTupleHeader row;
		HeapTupleData tuple = {0};
		float		corner[4] = {NAN, NAN, NAN, NAN};

		if (!nulls[i])
		{
			row = DatumGetHeapTupleHeader(elems[i]);
			tuple.t_len = HeapTupleHeaderGetDatumLength(row);
			tuple.t_data = row;
			heap_deform_tuple(&tuple, desc, v, isnull);
			for (int k = 0; k < 4; k++)
				if (!isnull[3 + k])
					corner[k] = DatumGetFloat4(v[3 + k]);
			o->class_id = isnull[0] ? 0 : DatumGetInt32(v[0]);
			if (opt->labels != labels_none)
			{
				text	   *name = isnull[1] ? NULL : DatumGetTextPP(v[1]);

				make_label(o, name ? VARDATA_ANY(name) : NULL, name ? (int) VARSIZE_ANY_EXHDR(name) : 0,
						   opt->confidence && !isnull[2], isnull[2] ? 0 : DatumGetFloat4(v[2]));
			}
		}
		o->x1 = corner[0];
		o->y1 = corner[1];
		o->x2 = corner[2];
		o->y2 = corner[3];
	}
	ReleaseTupleDesc(desc);
	return objects;
}

/* One image's list of options.boxes: objects with the members of millrace.detection. */
static img_object *
objects_of_json(JsonbContainer *boxes, int image, const look_options *opt, int *n)
{
	JsonbValue *list = getIthJsonbValueFromContainer(boxes, (uint32) image);
	img_object *objects;

	*n = 0;
	if (list == NULL || list->type == jbvNull)
		return NULL;
	if (list->type != jbvBinary || !JsonContainerIsArray(list->val.binary.data))
		look_bad_option("boxes", "an array with an array of boxes for each image");
	*n = (int) JsonContainerSize(list->val.binary.data);
	objects = palloc0(sizeof(img_object) * (*n > 0 ? *n : 1));
	for (int i = 0; i < *n; i++)
	{
		img_object *o = &objects[i];
		JsonbValue *box = getIthJsonbValueFromContainer(list->val.binary.data, (uint32) i);
		JsonbValue	name;
		double		id,
					confidence;

		if (box->type != jbvBinary || !JsonContainerIsObject(box->val.binary.data))
			look_bad_option("boxes", "made of objects with class_id, class_name, confidence, x1, y1, x2 and y2");
		o->x1 = (float) look_member(box->val.binary.data, "x1");
		o->y1 = (float) look_member(box->val.binary.data, "y1");
		o->x2 = (float) look_member(box->val.binary.data, "x2");
		o->y2 = (float) look_member(box->val.binary.data, "y2");
		id = look_member(box->val.binary.data, "class_id");
		confidence = look_member(box->val.binary.data, "confidence");
		o->class_id = id >= 0 && id <= PG_INT32_MAX ? (int) id : 0;
		if (opt->labels == labels_none)
			continue;
		if (getKeyJsonValueFromContainer(box->val.binary.data, "class_name", 10, &name) && name.type == jbvString)
			make_label(o, name.val.string.val, name.val.string.len, opt->confidence && !isnan(confidence), (float) confidence);
		else if (!isnan(id) || !isnan(confidence))
			make_label(o, NULL, 0, opt->confidence && !isnan(confidence), (float) confidence);
	}
	return objects;
}

/* The picture as a file, in the caller's context; the workspace is gone then. */
static bytea *
encode_and_leave(const mr_env *env, const img_pixels *pixels, const look_options *opt, MemoryContext caller, MemoryContext cxt)
{
	uint8_t    *file;
	size_t		len;
	bytea	   *result;
	mr_status	st;

	if ((opt->png ? img_encode_png(env, pixels, &file, &len, &st) : img_encode_jpeg(env, pixels, opt->quality, &file, &len, &st)) != MR_OK)
		mr_pg_raise(&st);
	if (len > MaxAllocSize - VARHDRSZ)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("image of %zu bytes does not fit in a value", len)));
	MemoryContextSwitchTo(caller);
	result = palloc(len + VARHDRSZ);
	SET_VARSIZE(result, len + VARHDRSZ);
	memcpy(VARDATA(result), file, len);
	MemoryContextDelete(cxt);
	return result;
}

/* image_annotate(image bytea, detections millrace.detection[], format text, options jsonb) -> bytea */
Datum
millrace_image_annotate(PG_FUNCTION_ARGS)
{
	MemoryContext cxt;
	MemoryContext caller;
	mr_env		env;
	mr_status	st;
	look_options opt = {.quality = 90,.confidence = true,.scale = 1};
	img_annotation how;
	img_font   *font;
	img_pixels	pixels;
	img_object *objects = NULL;
	int			n = 0;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
		PG_RETURN_NULL();
	cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace image", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(cxt);
	env = mr_pg_env(cxt);
	look_read_options(PG_GETARG_JSONB_P(3), look_for_annotate, &opt);
	look_read_format(text_to_cstring(PG_GETARG_TEXT_PP(2)), &opt);
	if (!PG_ARGISNULL(1))
		objects = objects_of_array(PG_GETARG_ARRAYTYPE_P(1), &opt, &n);
	font = open_fonts(&env);
	if (img_decode_value(&env, PG_GETARG_DATUM(0), NULL, &pixels, &st) != MR_OK)
		mr_pg_raise(&st);
	if (opt.scale > 1)
	{
		img_pixels	small = pixels;

		if (img_check_size(img_current_limits(), (uint64_t) small.width * opt.scale, (uint64_t) small.height * opt.scale, &st) != MR_OK ||
			img_resize(&env, &small, small.width * opt.scale, small.height * opt.scale, img_bicubic, NULL, &pixels, &st) != MR_OK)
			mr_pg_raise(&st);
		img_free(&env, &small);
		for (int i = 0; i < n; i++)
		{
			objects[i].x1 *= opt.scale;
			objects[i].y1 *= opt.scale;
			objects[i].x2 *= opt.scale;
			objects[i].y2 *= opt.scale;
		}
	}
	how = (img_annotation) {opt.line_width, opt.font_size, opt.labels == labels_all};
	if (img_annotate(&env, &pixels, font, objects, n, &how, &st) != MR_OK)
		mr_pg_raise(&st);
	img_font_close(font);
	PG_RETURN_BYTEA_P(encode_and_leave(&env, &pixels, &opt, caller, cxt));
}

/* Lines that the captions need, 0 to 2. */
static int
caption_lines(const Datum *captions, const bool *nulls, int n)
{
	int			lines = 0;

	for (int i = 0; i < n; i++)
		if (!nulls[i])
		{
			text	   *t = DatumGetTextPP(captions[i]);

			lines = memchr(VARDATA_ANY(t), '\n', VARSIZE_ANY_EXHDR(t)) ? 2 : Max(lines, 1);
			if (lines == 2)
				break;
		}
	return lines;
}

/* image_sheet(images bytea[], captions text[], options jsonb) -> bytea */
Datum
millrace_image_sheet(PG_FUNCTION_ARGS)
{
	MemoryContext cxt;
	MemoryContext caller;
	mr_env		env;
	mr_status	st;
	look_options opt = {.quality = 85,.confidence = true,.tile = 160};
	img_sheet_plan plan = {0};
	img_sheet  *sheet;
	img_font   *font;
	Datum	   *images;
	Datum	   *captions = NULL;
	bool	   *no_image;
	bool	   *no_caption = NULL;
	int			n,
				n_captions = 0;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(2) || ArrayGetNItems(ARR_NDIM(PG_GETARG_ARRAYTYPE_P(0)), ARR_DIMS(PG_GETARG_ARRAYTYPE_P(0))) == 0)
		PG_RETURN_NULL();
	cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace image", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(cxt);
	env = mr_pg_env(cxt);
	look_read_options(PG_GETARG_JSONB_P(2), look_for_sheet, &opt);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), BYTEAOID, -1, false, TYPALIGN_INT, &images, &no_image, &n);
	if (!PG_ARGISNULL(1))
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &captions, &no_caption, &n_captions);

	plan.tiles = n;
	plan.columns = Min(n, opt.columns > 0 ? opt.columns : (int) ceil(sqrt(1.4 * n)));
	plan.tile = opt.tile;
	plan.caption_lines = caption_lines(captions, no_caption, n_captions);
	if (opt.title)
	{
		size_t		len;
		const char *title = to_utf8(opt.title, (int) strlen(opt.title), &len);

		plan.title = pnstrdup(title, len);
	}
	font = open_fonts(&env);
	if (img_sheet_begin(&env, &plan, font, img_current_limits(), &sheet, &st) != MR_OK)
		mr_pg_raise(&st);
	for (int i = 0; i < n; i++)
	{
		bytea	   *image = no_image[i] ? NULL : DatumGetByteaPP(images[i]);
		text	   *caption = i < n_captions && !no_caption[i] ? DatumGetTextPP(captions[i]) : NULL;
		size_t		caption_len = 0;
		const char *utf8 = caption ? to_utf8(VARDATA_ANY(caption), (int) VARSIZE_ANY_EXHDR(caption), &caption_len) : NULL;
		int			n_objects = 0;
		img_object *objects = opt.boxes ? objects_of_json(opt.boxes, i, &opt, &n_objects) : NULL;

		if (img_sheet_add(sheet, image ? (uint8_t *) VARDATA_ANY(image) : NULL, image ? VARSIZE_ANY_EXHDR(image) : 0,
						  objects, n_objects, utf8, caption_len, &st) != MR_OK)
			mr_pg_raise(&st);
	}
	img_font_close(font);
	PG_RETURN_BYTEA_P(encode_and_leave(&env, img_sheet_pixels(sheet), &opt, caller, cxt));
}
