/*
 * labels_coco.c
 *	  COCO's JSON: {"images": […], "annotations": […], "categories": […]}.
 *
 * First the ends of the three arrays are found, by brackets and strings alone;
 * then images and categories are read into tables by number, and annotations
 * are handed on as they come.  Each object is read by itself, within its own
 * brackets: one that is wrong is a problem, and the next one is read.  NaN, as
 * Python writes it, is such a problem.  A file that ends too early gives what
 * is before its end.  See labels.h.
 */
#include <string.h>

#include "quality/labels_coco_int.h"

#define PIECE (1 << 18)			/* bytes between two questions whether to stop */

/* ---- tables ---- */

static coco_entry *
find(const coco_table *t, int64_t id)
{
	size_t		i = (size_t) ((uint64_t) id * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (t->places - 1);

	while (t->entry[i].name && t->entry[i].id != id)
		i = (i + 1) & (t->places - 1);
	return &t->entry[i];
}

static mr_code
make_table(qlt_reader *r, coco_table *t, size_t places)
{
	t->places = places;
	t->used = 0;
	t->entry = mr_alloc(r->env, places * sizeof(coco_entry));
	if (t->entry == NULL)
		return mr_fail(r->st, MR_NOMEM, "out of memory for the %zu images of a COCO file", places);
	memset(t->entry, 0, places * sizeof(coco_entry));
	return MR_OK;
}

/* The place of a new number; NULL in *at: it is taken. */
static mr_code
add(qlt_reader *r, coco_table *t, int64_t id, coco_entry **at)
{
	if (t->used * 2 >= t->places)
	{
		coco_table		wider;
		mr_code		code = make_table(r, &wider, t->places * 2);

		if (code != MR_OK)
			return code;
		for (size_t i = 0; i < t->places; i++)
			if (t->entry[i].name)
				*find(&wider, t->entry[i].id) = t->entry[i];
		wider.used = t->used;
		mr_free(r->env, t->entry);
		*t = wider;
	}
	*at = find(t, id);
	if ((*at)->name)
		*at = NULL;
	else
	{
		(*at)->id = id;
		t->used++;
	}
	return MR_OK;
}

/* ---- objects ---- */

static mr_code
read_category(coco *c, coco_span s)
{
	qlt_label	label = QLT_NO_LABEL;
	coco_object		o;
	coco_entry	   *at;
	mr_code		code;

	if (!qlt_coco_object(c, "category", s, HAS_ID | HAS_NAME, &o, c->class_name) || !qlt_coco_has(c, "category", &o, HAS_ID | HAS_NAME))
		return MR_OK;
	if (o.id < 0 || o.id > INT32_MAX)
	{
		qlt_problem(c->r, o.line, NULL, o.id < 0 ? "class_negative" : "class_too_large", "category %lld", (long long) o.id);
		return MR_OK;
	}
	code = add(c->r, &c->categories, o.id, &at);
	if (code != MR_OK)
		return code;
	if (at == NULL)
	{
		qlt_problem(c->r, o.line, NULL, "duplicate_id", "a second category %lld: the first one counts", (long long) o.id);
		return MR_OK;
	}
	at->name = o.name.name;
	at->len = o.name.len;
	at->escaped = o.name.escaped;
	label.line = o.line;
	label.class_id = (int) o.id;
	label.class_name = c->class_name;
	qlt_give(c->r, &label);
	return MR_OK;
}

static mr_code
read_image(coco *c, coco_span s)
{
	qlt_label	label = QLT_NO_LABEL;
	coco_object		o;
	coco_entry	   *at;
	mr_code		code;

	if (!qlt_coco_object(c, "image", s, HAS_ID | HAS_FILE | HAS_WIDTH | HAS_HEIGHT, &o, c->image) || !qlt_coco_has(c, "image", &o, HAS_ID | HAS_FILE))
		return MR_OK;
	if (c->images.used >= QLT_COCO_ENTRIES)
	{
		qlt_problem(c->r, o.line, NULL, "too_many_images", "more than %d images: split the file", QLT_COCO_ENTRIES);
		return MR_OK;
	}
	code = add(c->r, &c->images, o.id, &at);
	if (code != MR_OK)
		return code;
	if (at == NULL)
	{
		qlt_problem(c->r, o.line, c->image, "duplicate_id", "a second image %lld: the first one counts", (long long) o.id);
		return MR_OK;
	}
	at->name = o.name.name;
	at->len = o.name.len;
	at->escaped = o.name.escaped;
	label.line = o.line;
	label.image = c->image;
	if (o.width > 0 && o.height > 0)
	{
		label.has_box = true;
		label.box[2] = o.width;
		label.box[3] = o.height;
	}
	qlt_give_label(c->r, &label);
	return MR_OK;
}

static mr_code
read_annotation(coco *c, coco_span s)
{
	qlt_label	label = QLT_NO_LABEL;
	coco_object		o;
	const coco_entry *image;
	const coco_entry *category;

	if (!qlt_coco_object(c, "annotation", s, HAS_ID | HAS_IMAGE | HAS_CATEGORY | HAS_BOX | HAS_AREA | HAS_CROWD | HAS_POLYGON, &o, NULL))
		return MR_OK;
	if (!(o.has & HAS_BOX) && (o.has & HAS_POLYGON))
	{
		mr_json		js = {o.polygons, o.polygons, s.end, &c->st};
		bool		found;
		const char *problem = qlt_coco_polygons(&js, o.box, &found);

		if (problem)
		{
			qlt_problem(c->r, o.line, NULL, problem, "annotation %lld: \"segmentation\"", (long long) o.id);
			return MR_OK;
		}
		o.has |= found ? HAS_BOX : 0;
	}
	if (!qlt_coco_has(c, "annotation", &o, HAS_IMAGE | HAS_CATEGORY | HAS_BOX))
		return MR_OK;
	image = find(&c->images, o.image_id);
	if (image->name == NULL)
		qlt_problem(c->r, o.line, NULL, "unknown_image", "annotation %lld is of image %lld, which is not there", (long long) o.id, (long long) o.image_id);
	else if (o.category_id < 0 || o.category_id > INT32_MAX)
		qlt_problem(c->r, o.line, NULL, o.category_id < 0 ? "class_negative" : "class_too_large",
					"annotation %lld has category %lld", (long long) o.id, (long long) o.category_id);
	else if (qlt_coco_name(c, image->name, image->len, image->escaped, c->image) == NULL)
	{
		category = find(&c->categories, o.category_id);
		if (category->name && qlt_coco_name(c, category->name, category->len, category->escaped, c->class_name) == NULL)
			label.class_name = c->class_name;
		label.line = o.line;
		label.image = c->image;
		label.class_id = (int) o.category_id;
		label.has_box = true;
		memcpy(label.box, o.box, sizeof(label.box));
		label.crowd = o.crowd != 0;
		if ((o.has & HAS_AREA) && o.area >= 0 && o.area <= QLT_PIXEL_LIMIT * QLT_PIXEL_LIMIT)
			label.area = o.area;
		qlt_give_label(c->r, &label);
	}
	return MR_OK;
}

/* Each object of an array. */
static mr_code
read_array(coco *c, const char *key, coco_span array, mr_code (*read) (coco *c, coco_span s))
{
	const char *p = array.p;
	const char *asked = p;

	if (p == NULL || *p != '[')
	{
		qlt_problem(c->r, p ? qlt_line(c->r, p) : 0, NULL, p ? "wrong_type" : "missing_key", p ? "\"%s\" is no array" : "the file has no \"%s\"", key);
		return MR_OK;
	}
	p = qlt_coco_space(p + 1, array.end);
	while (p < array.end && *p != ']')
	{
		coco_span		s = {p, NULL};
		mr_code		code = qlt_coco_skip(c->r, p, &s.end);

		if (code == MR_OK && p - asked > PIECE)
		{
			code = qlt_go_on(c->r);
			asked = p;
		}
		if (code != MR_OK)
			return code;
		if (s.end == NULL || s.end > array.end || s.end == p)
			break;				/* cut off: said of the whole file */
		if (*p == '{')
			code = read(c, s);
		else
			qlt_problem(c->r, qlt_line(c->r, p), NULL, "wrong_type", "something in \"%s\" is no object", key);
		if (code != MR_OK)
			return code;
		p = qlt_coco_space(s.end, array.end);
		if (p < array.end && *p == ',')
			p = qlt_coco_space(p + 1, array.end);
		else if (p < array.end && *p != ']')
		{
			qlt_problem(c->r, qlt_line(c->r, p), NULL, "invalid_json", "\"%s\": a comma is missing", key);
			return MR_OK;
		}
	}
	return MR_OK;
}

/* Where the arrays are: images, annotations, categories. */
static mr_code
find_arrays(qlt_reader *r, coco_span *arrays, mr_status *st)
{
	static const char *const names[] = {"images", "annotations", "categories"};
	mr_json		js = {r->text, r->text, r->end, st};
	char		key[32];
	int			n = 0;
	int			more;

	if (!mr_json_open(&js, '{'))
	{
		qlt_problem(r, 1, NULL, "wrong_format", "COCO's JSON is an object with images, annotations and categories");
		return MR_OK;
	}
	while ((more = mr_json_key(&js, &n, key, sizeof(key))) > 0)
	{
		const char *p = qlt_coco_space(js.p, js.end);
		const char *after;
		mr_code		code = qlt_coco_skip(r, p, &after);

		if (code != MR_OK)
			return code;
		for (int i = 0; i < 3; i++)
			if (strcmp(key, names[i]) == 0)
			{
				if (arrays[i].p)
					qlt_problem(r, qlt_line(r, p), NULL, "duplicate_key", "a second \"%s\": the last one counts", key);
				arrays[i] = (coco_span) {p < r->end ? p : NULL, after ? after : r->end};
			}
		if (after == NULL || after == p)
		{
			qlt_problem(r, qlt_line(r, p), NULL, "invalid_json", after ? "\"%s\" has no value" : "the file ends within \"%s\"", key);
			return MR_OK;
		}
		js.p = after;
	}
	if (more < 0)
		qlt_problem(r, qlt_line(r, js.p), NULL, "invalid_json", "%s", st->message);
	return MR_OK;
}

mr_code
qlt_read_coco(qlt_reader *r)
{
	coco		c = {.r = r};
	coco_span		arrays[3] = {{NULL, NULL}, {NULL, NULL}, {NULL, NULL}};
	mr_code		code = find_arrays(r, arrays, &c.st);

	if (code != MR_OK)
		return code;
	if (arrays[0].p == NULL && arrays[1].p == NULL)
	{
		if (r->problems == 0)
			qlt_problem(r, 1, NULL, "wrong_format", "COCO's JSON is an object with images, annotations and categories");
		return MR_OK;
	}
	code = make_table(r, &c.images, 1024);
	if (code == MR_OK)
		code = make_table(r, &c.categories, 64);
	if (code == MR_OK)
		code = read_array(&c, "categories", arrays[2], read_category);
	if (code == MR_OK)
		code = read_array(&c, "images", arrays[0], read_image);
	if (code == MR_OK)
		code = read_array(&c, "annotations", arrays[1], read_annotation);
	mr_free(r->env, c.images.entry);
	mr_free(r->env, c.categories.entry);
	return code;
}
