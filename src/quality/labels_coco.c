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
#include <math.h>
#include <string.h>

#include "core/json.h"
#include "quality/labels_int.h"

#define PIECE (1 << 20)			/* bytes between two questions whether to stop */

/* Something with a number, and its name as the file has it. */
typedef struct entry
{
	int64_t		id;
	const char *name;			/* within quotes; NULL: a free place */
	uint32_t	len;
	bool		escaped;
} entry;

/* Open addressing; a power of two of places, at most half of them taken. */
typedef struct table
{
	entry	   *entry;
	size_t		places;
	size_t		used;
} table;

typedef struct span
{
	const char *p;				/* NULL: not there */
	const char *end;
} span;

typedef struct coco
{
	qlt_reader *r;
	table		images;
	table		categories;
	mr_status	st;				/* of the JSON being read */
	char		image[QLT_NAME_LEN + 1];
	char		class_name[QLT_NAME_LEN + 1];
} coco;

/* ---- tables ---- */

static entry *
find(const table *t, int64_t id)
{
	size_t		i = (size_t) ((uint64_t) id * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (t->places - 1);

	while (t->entry[i].name && t->entry[i].id != id)
		i = (i + 1) & (t->places - 1);
	return &t->entry[i];
}

static mr_code
make_table(qlt_reader *r, table *t, size_t places)
{
	t->places = places;
	t->used = 0;
	t->entry = mr_alloc(r->env, places * sizeof(entry));
	if (t->entry == NULL)
		return mr_fail(r->st, MR_NOMEM, "out of memory for the %zu images of a COCO file", places);
	memset(t->entry, 0, places * sizeof(entry));
	return MR_OK;
}

/* The place of a new number; NULL in *at: it is taken. */
static mr_code
add(qlt_reader *r, table *t, int64_t id, entry **at)
{
	if (t->used * 2 >= t->places)
	{
		table		wider;
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

/* ---- steps over JSON that need not be right ---- */

static const char *
skip_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
		p++;
	return p;
}

/* Behind the string that begins at p; NULL: it does not end. */
static const char *
skip_string(const char *p, const char *end)
{
	for (p++; p < end; p++)
	{
		if (*p == '"')
			return p + 1;
		if (*p == '\\' && ++p == end)
			break;
	}
	return NULL;
}

/* Behind the value at p, counting brackets; NULL in *after: it does not end. */
static mr_code
skip_value(const qlt_reader *r, const char *p, const char **after)
{
	const char *asked = p;
	int64_t		depth = 0;

	*after = NULL;
	while (p < r->end)
	{
		if (p - asked > PIECE)
		{
			mr_code		code = qlt_go_on(r);

			if (code != MR_OK)
				return code;
			asked = p;
		}
		if (*p == '"')
		{
			p = skip_string(p, r->end);
			if (p == NULL)
				return MR_OK;
			if (depth > 0)
				continue;
			break;
		}
		if (*p == '{' || *p == '[')
			depth++;
		else if (*p == '}' || *p == ']')
		{
			if (depth == 0)
				break;
			if (--depth == 0)
			{
				p++;
				break;
			}
		}
		else if (depth == 0 && (*p == ',' || *p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
			break;
		p++;
	}
	*after = depth == 0 ? p : NULL;
	return MR_OK;
}

/* ---- values of an object ---- */

/* A number; NaN and inf, which are no JSON, are told from other things. */
static const char *
read_number(mr_json *js, double *value)
{
	const char *p = skip_space(js->p, js->end);
	const char *end = p;
	qlt_number	what;

	while (end < js->end && *end != ',' && *end != ']' && *end != '}' && *end != ' ' && *end != '\n' && *end != '\r' && *end != '\t')
		end++;
	js->p = end;
	what = qlt_parse_number(p, (size_t) (end - p), value);
	return what == QLT_NUMBER ? NULL : what == QLT_NOT_A_NUMBER ? "wrong_type" : qlt_number_problem(what);
}

/* A whole number that a double holds exactly. */
static const char *
read_id(mr_json *js, int64_t *id)
{
	double		value = 0;
	const char *problem = read_number(js, &value);

	if (problem)
		return problem;
	if (value != floor(value))
		return "wrong_type";
	if (fabs(value) > 9007199254740992.0)
		return "number_too_large";
	*id = (int64_t) value;
	return NULL;
}

/* A name, without its escapes, in out (of QLT_NAME_LEN + 1 bytes). */
static const char *
copy_name(coco *c, const char *name, size_t len, bool escaped, char *out)
{
	mr_json		js = {name, name, name + len, &c->st};

	if (len == 0)
		return "missing_key";
	if (len > QLT_NAME_LEN)
		return "name_too_long";
	if (!escaped)
		memcpy(out, name, len);
	else if (!mr_json_unescape(&js, name, len, out, &len))
		return "invalid_json";
	out[len] = '\0';
	return NULL;
}

static const char *
read_name(coco *c, mr_json *js, entry *e, char *out)
{
	size_t		len;

	if (mr_json_peek(js) != '"')
		return "wrong_type";
	if (!mr_json_string(js, &e->name, &len, &e->escaped))
		return "invalid_json";
	e->len = (uint32_t) len;
	return copy_name(c, e->name, len, e->escaped, out);
}

/* [x, y, width, height] as corners. */
static const char *
read_box(mr_json *js, double *box)
{
	int			n = 0;
	int			more = 0;

	if (mr_json_peek(js) != '[')
		return "wrong_type";
	js->p++;
	while ((more = mr_json_next(js, '[', &n)) > 0)
	{
		double		value = 0;
		const char *problem = read_number(js, &value);

		if (problem)
			return problem;
		if (n <= 4)
			box[n - 1] = value;
	}
	if (more < 0)
		return "invalid_json";
	if (n != 4)
		return n < 4 ? "missing_columns" : "extra_columns";
	box[2] += box[0];
	box[3] += box[1];
	return NULL;
}

/* The bounds of polygons [[x, y, …], …]; RLE gives none. */
static const char *
read_polygons(mr_json *js, double *box, bool *found)
{
	int			polygons = 0;

	*found = false;
	if (mr_json_peek(js) != '[')
		return mr_json_skip(js) ? NULL : "invalid_json";
	js->p++;
	for (;;)
	{
		int			more = mr_json_next(js, '[', &polygons);
		int			n = 0;

		if (more <= 0)
			return more < 0 ? "invalid_json" : NULL;
		if (mr_json_peek(js) != '[')
			return "wrong_type";
		js->p++;
		while ((more = mr_json_next(js, '[', &n)) > 0)
		{
			int			axis = (n - 1) % 2;
			double		value = 0;
			const char *problem = read_number(js, &value);

			if (problem)
				return problem;
			if (!*found || (n == 2 && polygons == 1))
				box[axis] = box[axis + 2] = value;
			*found = true;
			box[axis] = fmin(box[axis], value);
			box[axis + 2] = fmax(box[axis + 2], value);
		}
		if (more < 0)
			return "invalid_json";
		if (n % 2 == 1)
			return "missing_columns";
	}
}

/* ---- objects ---- */

/* What an object of any of the arrays may have. */
enum
{
	HAS_ID = 1, HAS_FILE = 2, HAS_NAME = 4, HAS_WIDTH = 8, HAS_HEIGHT = 16, HAS_IMAGE = 32, HAS_CATEGORY = 64, HAS_BOX = 128,
	HAS_AREA = 256, HAS_CROWD = 512, HAS_POLYGON = 1024
};

static const struct
{
	const char *key;
	int			flag;
}			keys[] = {
	{"id", HAS_ID}, {"file_name", HAS_FILE}, {"name", HAS_NAME}, {"width", HAS_WIDTH}, {"height", HAS_HEIGHT}, {"image_id", HAS_IMAGE},
	{"category_id", HAS_CATEGORY}, {"bbox", HAS_BOX}, {"area", HAS_AREA}, {"iscrowd", HAS_CROWD}, {"segmentation", HAS_POLYGON}
};

typedef struct object
{
	int			has;
	int64_t		line;
	int64_t		id;
	int64_t		image_id;
	int64_t		category_id;
	entry		name;
	double		width;
	double		height;
	double		area;
	double		crowd;
	double		box[4];
	const char *polygons;		/* where "segmentation" begins; read only where there is no box */
} object;

/* Read the members that are in wanted.  false: a problem was handed on. */
static bool
read_object(coco *c, const char *what, span s, int wanted, object *o, char *name)
{
	mr_json		js = {s.p, s.p, s.end, &c->st};
	int			n = 0;
	int			more;
	char		key[32];

	*o = (object) {.line = qlt_line(c->r, s.p)};
	js.p++;
	while ((more = mr_json_key(&js, &n, key, sizeof(key))) > 0)
	{
		const char *problem = NULL;
		double		truth;
		int			flag = 0;

		for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
			if (strcmp(key, keys[i].key) == 0)
				flag = keys[i].flag & wanted;
		if (flag & o->has)
			qlt_problem(c->r, o->line, NULL, "duplicate_key", "%s with two \"%s\": the last one counts", what, key);
		if (flag != 0 && mr_json_null(&js))
			continue;
		switch (flag)
		{
			case HAS_POLYGON:
				o->polygons = skip_space(js.p, js.end);
				/* FALLTHROUGH */
			case 0:
				{
					const char *after;

					if (skip_value(c->r, skip_space(js.p, js.end), &after) != MR_OK || after == NULL || after > js.end)
						problem = "invalid_json";
					else
						js.p = after;
					break;
				}
			case HAS_ID:
				problem = read_id(&js, &o->id);
				break;
			case HAS_FILE:
			case HAS_NAME:
				problem = read_name(c, &js, &o->name, name);
				break;
			case HAS_WIDTH:
				problem = read_number(&js, &o->width);
				break;
			case HAS_HEIGHT:
				problem = read_number(&js, &o->height);
				break;
			case HAS_IMAGE:
				problem = read_id(&js, &o->image_id);
				break;
			case HAS_CATEGORY:
				problem = read_id(&js, &o->category_id);
				break;
			case HAS_BOX:
				problem = read_box(&js, o->box);
				break;
			case HAS_AREA:
				problem = read_number(&js, &o->area);
				break;
			case HAS_CROWD:
				truth = mr_json_peek(&js) == 't';
				if (truth || mr_json_peek(&js) == 'f')
				{
					o->crowd = truth;
					problem = mr_json_skip(&js) ? NULL : "invalid_json";
				}
				else
					problem = read_number(&js, &o->crowd);
				break;
		}
		if (problem)
		{
			qlt_problem(c->r, o->line, NULL, problem, "%s %lld: \"%s\"", what, (long long) o->id, key);
			return false;
		}
		o->has |= flag;
	}
	if (more < 0)
	{
		qlt_problem(c->r, o->line, NULL, "invalid_json", "%s %lld: %s", what, (long long) o->id, c->st.message);
		return false;
	}
	return true;
}

/* Is it all there?  If not, that is a problem. */
static bool
check_has(coco *c, const char *what, const object *o, int needed)
{
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (keys[i].flag & needed & ~o->has)
		{
			qlt_problem(c->r, o->line, NULL, "missing_key", "%s %lld has no \"%s\"", what, (long long) o->id, keys[i].key);
			return false;
		}
	return true;
}

static mr_code
read_category(coco *c, span s)
{
	qlt_label	label = QLT_NO_LABEL;
	object		o;
	entry	   *at;
	mr_code		code;

	if (!read_object(c, "category", s, HAS_ID | HAS_NAME, &o, c->class_name) || !check_has(c, "category", &o, HAS_ID | HAS_NAME))
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
read_image(coco *c, span s)
{
	qlt_label	label = QLT_NO_LABEL;
	object		o;
	entry	   *at;
	mr_code		code;

	if (!read_object(c, "image", s, HAS_ID | HAS_FILE | HAS_WIDTH | HAS_HEIGHT, &o, c->image) || !check_has(c, "image", &o, HAS_ID | HAS_FILE))
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
read_annotation(coco *c, span s)
{
	qlt_label	label = QLT_NO_LABEL;
	object		o;
	const entry *image;
	const entry *category;

	if (!read_object(c, "annotation", s, HAS_ID | HAS_IMAGE | HAS_CATEGORY | HAS_BOX | HAS_AREA | HAS_CROWD | HAS_POLYGON, &o, NULL))
		return MR_OK;
	if (!(o.has & HAS_BOX) && (o.has & HAS_POLYGON))
	{
		mr_json		js = {o.polygons, o.polygons, s.end, &c->st};
		bool		found;
		const char *problem = read_polygons(&js, o.box, &found);

		if (problem)
		{
			qlt_problem(c->r, o.line, NULL, problem, "annotation %lld: \"segmentation\"", (long long) o.id);
			return MR_OK;
		}
		o.has |= found ? HAS_BOX : 0;
	}
	if (!check_has(c, "annotation", &o, HAS_IMAGE | HAS_CATEGORY | HAS_BOX))
		return MR_OK;
	image = find(&c->images, o.image_id);
	if (image->name == NULL)
		qlt_problem(c->r, o.line, NULL, "unknown_image", "annotation %lld is of image %lld, which is not there", (long long) o.id, (long long) o.image_id);
	else if (o.category_id < 0 || o.category_id > INT32_MAX)
		qlt_problem(c->r, o.line, NULL, o.category_id < 0 ? "class_negative" : "class_too_large",
					"annotation %lld has category %lld", (long long) o.id, (long long) o.category_id);
	else if (copy_name(c, image->name, image->len, image->escaped, c->image) == NULL)
	{
		category = find(&c->categories, o.category_id);
		if (category->name && copy_name(c, category->name, category->len, category->escaped, c->class_name) == NULL)
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
read_array(coco *c, const char *key, span array, mr_code (*read) (coco *c, span s))
{
	const char *p = array.p;
	const char *asked = p;

	if (p == NULL || *p != '[')
	{
		qlt_problem(c->r, p ? qlt_line(c->r, p) : 0, NULL, p ? "wrong_type" : "missing_key", p ? "\"%s\" is no array" : "the file has no \"%s\"", key);
		return MR_OK;
	}
	p = skip_space(p + 1, array.end);
	while (p < array.end && *p != ']')
	{
		span		s = {p, NULL};
		mr_code		code = skip_value(c->r, p, &s.end);

		if (code == MR_OK && p - asked > PIECE / 4)
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
		p = skip_space(s.end, array.end);
		if (p < array.end && *p == ',')
			p = skip_space(p + 1, array.end);
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
find_arrays(qlt_reader *r, span *arrays, mr_status *st)
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
		const char *p = skip_space(js.p, js.end);
		const char *after;
		mr_code		code = skip_value(r, p, &after);

		if (code != MR_OK)
			return code;
		for (int i = 0; i < 3; i++)
			if (strcmp(key, names[i]) == 0)
			{
				if (arrays[i].p)
					qlt_problem(r, qlt_line(r, p), NULL, "duplicate_key", "a second \"%s\": the last one counts", key);
				arrays[i] = (span) {p < r->end ? p : NULL, after ? after : r->end};
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
	span		arrays[3] = {{NULL, NULL}, {NULL, NULL}, {NULL, NULL}};
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
