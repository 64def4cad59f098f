/*
 * labels_yaml.c
 *	  The part of YAML that YOLO's data.yaml needs:
 *
 *	  path: ../datasets/coco8		path, train, val, test: a scalar, or a list of them
 *	  train: images/train
 *	  nc: 2
 *	  names: [person, 'fire truck']		or a list of "- person" lines, or a map of "0: person" lines, or {0: person}
 *
 * Other keys, with what is indented below them, are passed over.  Anchors,
 * aliases, tags, block scalars and nested values within these keys are a
 * problem, not an error.  See labels.h.
 */
#include <string.h>

#include "quality/labels_int.h"

#define MAX_CLASSES 65536

typedef enum part
{
	PART_OTHER,
	PART_NAMES,
	PART_COUNT,
	PART_SETTING
} part;

typedef struct yaml
{
	qlt_reader *r;
	part		what;			/* the key being read */
	char		key[16];
	int			items;			/* of its list or map */
	bool		failed;			/* no further problem of this key */
	int			seen_keys;		/* a bit for each that we know */
	int			classes;
	double		count;			/* nc; -1: not said */
	char		value[QLT_NAME_LEN + 1];
	uint64_t	taken[MAX_CLASSES / 64];	/* class numbers */
} yaml;

static void
unsupported(yaml *y, const char *at, const char *what)
{
	if (!y->failed)
		qlt_problem(y->r, qlt_line(y->r, at), NULL, "yaml_unsupported", "\"%s\": %s", y->key, what);
	y->failed = true;
}

static bool
blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static const char *
line_end(const yaml *y, const char *p)
{
	const char *eol = memchr(p, '\n', (size_t) (y->r->end - p));

	return eol ? eol : y->r->end;
}

/* Past blanks, comments and, in brackets, line ends. */
static const char *
skip(const yaml *y, const char *p, bool lines)
{
	const char *end = y->r->end;

	while (p < end)
	{
		if (blank(*p) || (lines && *p == '\n'))
			p++;
		else if (*p == '#' && (p == y->r->text || blank(p[-1]) || p[-1] == '\n' || lines))
			p = line_end(y, p);
		else
			break;
	}
	return p;
}

/*
 * The scalar at p into y->value; stops is what ends a plain one besides the
 * line's end and " #".  NULL: a problem was handed on.
 */
static const char *
scalar(yaml *y, const char *p, const char *stops)
{
	const char *end = y->r->end;
	const char *first = p;
	size_t		len = 0;
	char		quote = p < end && (*p == '"' || *p == '\'') ? *p : '\0';

	if (p < end && memchr("&*!|>%@`", *p, 8))
	{
		unsupported(y, p, "anchors, aliases, tags and block scalars are not read");
		return NULL;
	}
	if (quote)
	{
		for (p++;; p++)
		{
			char		c;

			if (p >= end || *p == '\n')
			{
				unsupported(y, first, "a quote does not end in its line");
				return NULL;
			}
			c = *p;
			if (c == quote && quote == '\'' && p + 1 < end && p[1] == '\'')
				p++;
			else if (c == quote)
				break;
			else if (c == '\\' && quote == '"')
			{
				c = ++p < end ? *p : '\0';
				if (c == 't' || c == 'n')
					c = ' ';
				else if (c == '\0' || !memchr("\"\\/ ", c, 4))
				{
					unsupported(y, first, "an escape that is not \\\", \\\\ or \\/");
					return NULL;
				}
			}
			if (len == QLT_NAME_LEN)
				break;
			y->value[len++] = c;
		}
		if (p < end && *p == quote)
			p++;
	}
	else
	{
		while (p < end && *p != '\n' && !strchr(stops, *p) && !(*p == '#' && p > first && blank(p[-1])) &&
			   !(*p == ':' && strchr(stops, ':') == NULL && (p + 1 == end || blank(p[1]) || p[1] == '\n')))
			p++;
		for (len = (size_t) (p - first); len > 0 && blank(first[len - 1]); len--)
			;
		memcpy(y->value, first, len < QLT_NAME_LEN ? len : QLT_NAME_LEN);
	}
	if (len >= QLT_NAME_LEN)
	{
		unsupported(y, first, "a value is too long");
		return NULL;
	}
	y->value[len] = '\0';
	return p;
}

static void
give_value(yaml *y, const char *at, int id)
{
	qlt_label	label = QLT_NO_LABEL;
	qlt_number	what;

	label.line = qlt_line(y->r, at);
	if (y->what == PART_COUNT)
	{
		what = qlt_parse_number(y->value, strlen(y->value), &y->count);
		if (what != QLT_NUMBER)
		{
			y->count = -1;
			qlt_problem(y->r, label.line, NULL, qlt_number_problem(what), "\"nc\" is \"%s\"", y->value);
		}
	}
	else if (y->what == PART_SETTING)
	{
		label.image = y->value;
		label.detail = y->key;
		if (y->value[0] && strcmp(y->value, "~") != 0 && strcmp(y->value, "null") != 0)
			qlt_give(y->r, &label);
	}
	else if (y->what == PART_NAMES)
	{
		if (id < 0 || id >= MAX_CLASSES)
			qlt_problem(y->r, label.line, NULL, id < 0 ? "class_negative" : "class_too_large", "class %d \"%s\"", id, y->value);
		else if (y->taken[id / 64] >> (id % 64) & 1)
			qlt_problem(y->r, label.line, NULL, "duplicate_key", "a second name of class %d, \"%s\": the first one counts", id, y->value);
		else if (y->value[0] == '\0')
			qlt_problem(y->r, label.line, NULL, "missing_key", "class %d has no name", id);
		else
		{
			y->taken[id / 64] |= UINT64_C(1) << (id % 64);
			y->classes++;
			label.class_id = id;
			label.class_name = y->value;
			qlt_give(y->r, &label);
		}
	}
}

/* "0:" at p: the number and where the value begins; NULL: a problem was handed on. */
static const char *
map_key(yaml *y, const char *p, int *id)
{
	const char *first = p;
	const char *problem;
	bool		floating;

	p = scalar(y, p, ":\n,}]");
	if (p == NULL)
		return NULL;
	p = skip(y, p, false);
	if (p >= y->r->end || *p != ':')
	{
		unsupported(y, first, "neither a list nor a map of numbers to names");
		return NULL;
	}
	problem = qlt_parse_class(y->value, strlen(y->value), id, &floating);
	if (problem)
	{
		qlt_problem(y->r, qlt_line(y->r, first), NULL, problem, "\"names\": \"%s\" is no class number", y->value);
		*id = -1;
	}
	return skip(y, p + 1, false);
}

/* [a, b] or {0: a, 1: b} at p; returns what is behind. */
static const char *
flow(yaml *y, const char *p)
{
	char		close = *p == '[' ? ']' : '}';

	p++;
	for (;;)
	{
		int			id = y->items;
		const char *at;

		p = skip(y, p, true);
		if (p >= y->r->end)
		{
			unsupported(y, y->r->end, "a bracket is not closed");
			return p;
		}
		if (*p == close)
			return p + 1;
		at = p;
		if (close == '}')
		{
			if ((p = map_key(y, p, &id)) == NULL)
				return y->r->end;
			p = skip(y, p, true);
		}
		if (p < y->r->end && (*p == '[' || *p == '{'))
		{
			unsupported(y, p, "a list within a list");
			return y->r->end;
		}
		if ((p = scalar(y, p, ",]}")) == NULL)
			return y->r->end;
		if (close == ']' || id >= 0)
			give_value(y, at, id);
		y->items++;
		p = skip(y, p, true);
		if (p < y->r->end && *p == ',')
			p++;
		else if (p < y->r->end && *p != close)
		{
			unsupported(y, p, "a comma is missing");
			return y->r->end;
		}
	}
}

/* "- name", or "0: name", below a key. */
static void
item(yaml *y, const char *p)
{
	const char *at = p;
	int			id = y->items++;

	if (y->failed)
		return;
	if (*p == '-' && (p + 1 >= y->r->end || blank(p[1]) || p[1] == '\n'))
		p = skip(y, p + 1, false);
	else if (y->what == PART_NAMES)
		p = map_key(y, p, &id);
	else
	{
		unsupported(y, p, "a map is not read here");
		return;
	}
	if (p == NULL || id < 0)
		return;
	if (p < y->r->end && (*p == '[' || *p == '{'))
		unsupported(y, p, "a list within a list");
	else if ((p = scalar(y, p, "\n")) != NULL)
	{
		p = skip(y, p, false);
		if (p < y->r->end && *p != '\n')
			unsupported(y, p, "something follows a value");
		else
			give_value(y, at, id);
	}
}

/* "key: …" that begins a line; returns where the next line is looked for. */
static const char *
top_level(yaml *y, const char *p)
{
	static const char *const known[] = {"names", "nc", "path", "train", "val", "test"};
	const char *at = p;

	y->what = PART_OTHER;
	y->failed = false;
	y->items = 0;
	y->key[0] = '\0';
	p = scalar(y, p, "\n");
	if (p == NULL)
		return line_end(y, at);
	p = skip(y, p, false);
	if (p >= y->r->end || *p != ':')
	{
		qlt_problem(y->r, qlt_line(y->r, at), NULL, "invalid_yaml", "a line that is no \"key: value\"");
		return line_end(y, p);
	}
	p = skip(y, p + 1, false);
	for (int i = 0; i < 6; i++)
		if (strcmp(y->value, known[i]) == 0)
		{
			strcpy(y->key, known[i]);
			y->what = i == 0 ? PART_NAMES : i == 1 ? PART_COUNT : PART_SETTING;
			if (y->seen_keys >> i & 1)
			{
				qlt_problem(y->r, qlt_line(y->r, at), NULL, "duplicate_key", "a second \"%s\": the first one counts", known[i]);
				y->what = PART_OTHER;
			}
			y->seen_keys |= 1 << i;
		}
	if (y->what == PART_OTHER || p >= y->r->end || *p == '\n')
		return line_end(y, p);
	if (*p == '[' || *p == '{')
		p = flow(y, p);
	else if ((p = scalar(y, p, "\n")) == NULL)
		return line_end(y, at);
	else if (y->what == PART_NAMES)
		unsupported(y, at, "a name is no list");
	else
		give_value(y, at, 0);
	p = skip(y, p, false);
	if (p < y->r->end && *p != '\n')
		unsupported(y, p, "something follows a value");
	return line_end(y, p);
}

mr_code
qlt_read_yaml(qlt_reader *r)
{
	yaml	   *y = mr_alloc(r->env, sizeof(yaml));
	int64_t		lines = 0;
	mr_code		code = MR_OK;

	if (y == NULL)
		return mr_fail(r->st, MR_NOMEM, "out of memory");
	memset(y, 0, sizeof(*y));
	y->r = r;
	y->count = -1;
	for (const char *p = r->text; code == MR_OK && p < r->end;)
	{
		const char *first = p;

		if (++lines % 1024 == 0)
			code = qlt_go_on(r);
		p = skip(y, p, false);
		if (p >= r->end || *p == '\n')
		{
			p++;
			continue;
		}
		if (p == first && (*p == '%' || (r->end - p >= 3 && (memcmp(p, "---", 3) == 0 || memcmp(p, "...", 3) == 0))))
			p = line_end(y, p);
		else if (memchr(first, '\t', (size_t) (p - first)))
		{
			qlt_problem(r, qlt_line(r, p), NULL, "invalid_yaml", "a line is indented with a tab");
			p = line_end(y, p);
		}
		else if (p == first && *p != '-')
			p = top_level(y, p);
		else
		{
			if (y->what != PART_OTHER)
				item(y, p);
			p = line_end(y, p);
		}
		p++;
	}
	if (code == MR_OK && y->classes == 0)
		qlt_problem(r, 0, NULL, "missing_key", "the file has no \"names\"");
	else if (code == MR_OK && y->count >= 0 && y->count != y->classes)
		qlt_problem(r, 0, NULL, "class_count_differs", "\"nc\" is %g, and there are %d names", y->count, y->classes);
	mr_free(r->env, y);
	return code;
}
