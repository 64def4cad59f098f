/*
 * labels_coco_object.c
 *	  One object of COCO's JSON: its members, as numbers, names and boxes.
 *
 * What is not looked at need not be right: it is passed over by counting brackets.
 */
#include <math.h>
#include <string.h>

#include "quality/labels_coco_int.h"

#define PIECE (1 << 20)			/* bytes between two questions whether to stop */

/* ---- steps over JSON that need not be right ---- */

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

mr_code
qlt_coco_skip(const qlt_reader *r, const char *p, const char **after)
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
	const char *p = qlt_coco_space(js->p, js->end);
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

const char *
qlt_coco_name(coco *c, const char *name, size_t len, bool escaped, char *out)
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
read_name(coco *c, mr_json *js, coco_entry *e, char *out)
{
	size_t		len;

	if (mr_json_peek(js) != '"')
		return "wrong_type";
	if (!mr_json_string(js, &e->name, &len, &e->escaped))
		return "invalid_json";
	e->len = (uint32_t) len;
	return qlt_coco_name(c, e->name, len, e->escaped, out);
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

const char *
qlt_coco_polygons(mr_json *js, double *box, bool *found)
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

static const struct
{
	const char *key;
	int			flag;
}			keys[] = {
	{"id", HAS_ID}, {"file_name", HAS_FILE}, {"name", HAS_NAME}, {"width", HAS_WIDTH}, {"height", HAS_HEIGHT}, {"image_id", HAS_IMAGE},
	{"category_id", HAS_CATEGORY}, {"bbox", HAS_BOX}, {"area", HAS_AREA}, {"iscrowd", HAS_CROWD}, {"segmentation", HAS_POLYGON}
};

bool
qlt_coco_object(coco *c, const char *what, coco_span s, int wanted, coco_object *o, char *name)
{
	mr_json		js = {s.p, s.p, s.end, &c->st};
	int			n = 0;
	int			more;
	char		key[32];

	*o = (coco_object) {.line = qlt_line(c->r, s.p)};
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
				o->polygons = qlt_coco_space(js.p, js.end);
				/* FALLTHROUGH */
			case 0:
				{
					const char *after;

					if (qlt_coco_skip(c->r, qlt_coco_space(js.p, js.end), &after) != MR_OK || after == NULL || after > js.end)
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

bool
qlt_coco_has(coco *c, const char *what, const coco_object *o, int needed)
{
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (keys[i].flag & needed & ~o->has)
		{
			qlt_problem(c->r, o->line, NULL, "missing_key", "%s %lld has no \"%s\"", what, (long long) o->id, keys[i].key);
			return false;
		}
	return true;
}
