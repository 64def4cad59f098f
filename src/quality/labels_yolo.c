/*
 * labels_yolo.c
 *	  YOLO's label files, a line an object:
 *
 *	  class cx cy w h					centre and size of the box, 0..1 of width and height
 *	  class cx cy w h confidence		of a saved prediction: the confidence is dropped
 *	  class x1 y1 x2 y2 x3 y3 …			a polygon (segmentation, oriented boxes): its bounding box, and its area
 *
 *	  and files of names, one a line.  See labels.h.
 */
#include <math.h>
#include <string.h>

#include "quality/labels_int.h"

/* Beyond these no number is a share of an image: the file has pixels. */
#define LEAST_SHARE (-0.5)
#define MOST_SHARE 1.5

/* The numbers of a line behind its class, seen as a box and as a polygon. */
typedef struct shares
{
	int64_t		n;
	double		box[5];			/* the first of them */
	double		x,				/* of the point that is not whole yet */
				start[2],		/* first and newest point */
				last[2];
	double		bounds[4];
	double		twice_area;		/* shoelace formula, signed */
	double		farthest;		/* the value most out of 0..1 */
} shares;

static void
add_share(shares *s, double value)
{
	if (s->n < 5)
		s->box[s->n] = value;
	if (fabs(value - 0.5) > fabs(s->farthest - 0.5))
		s->farthest = value;
	if (s->n++ % 2 == 0)
	{
		s->x = value;
		return;
	}
	if (s->n == 2)
	{
		s->start[0] = s->bounds[0] = s->bounds[2] = s->x;
		s->start[1] = s->bounds[1] = s->bounds[3] = value;
	}
	else
		s->twice_area += s->last[0] * value - s->x * s->last[1];
	s->last[0] = s->x;
	s->last[1] = value;
	s->bounds[0] = fmin(s->bounds[0], s->x);
	s->bounds[1] = fmin(s->bounds[1], value);
	s->bounds[2] = fmax(s->bounds[2], s->x);
	s->bounds[3] = fmax(s->bounds[3], value);
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

/* The next word before end; false: there is none. */
static bool
next_word(const char **p, const char *end, const char **word, size_t *len)
{
	while (*p < end && is_space(**p))
		(*p)++;
	*word = *p;
	while (*p < end && !is_space(**p))
		(*p)++;
	*len = (size_t) (*p - *word);
	return *len > 0;
}

static mr_code
read_line(qlt_reader *r, int64_t line, const char *p, const char *end)
{
	qlt_label	label = QLT_NO_LABEL;
	shares		s = {.farthest = 0.5};
	const char *word;
	const char *problem;
	size_t		len;
	bool		floating;

	if (!next_word(&p, end, &word, &len))
		return MR_OK;
	label.line = line;
	problem = qlt_parse_class(word, len, &label.class_id, &floating);
	if (problem)
	{
		qlt_problem(r, line, NULL, problem, "class \"%.*s\"", qlt_cut(word, len, 60), word);
		return MR_OK;
	}
	while (next_word(&p, end, &word, &len))
	{
		double		value;
		qlt_number	what = qlt_parse_number(word, len, &value);
		mr_code		code;

		if (what != QLT_NUMBER)
		{
			qlt_problem(r, line, NULL, qlt_number_problem(what), "\"%.*s\" in column %lld", qlt_cut(word, len, 60), word, (long long) s.n + 2);
			return MR_OK;
		}
		add_share(&s, value);
		if (s.n % 65536 == 0 && (code = qlt_go_on(r)) != MR_OK)
			return code;
	}
	if (s.n < 4)
		qlt_problem(r, line, NULL, "missing_columns", "%lld columns, of class, x, y, width, height", (long long) s.n + 1);
	else if (s.n > 5 && s.n % 2 == 1)
		qlt_problem(r, line, NULL, "extra_columns", "%lld columns are neither a box nor a polygon", (long long) s.n + 1);
	else if ((s.n == 5 ? fmin(fmin(s.box[0], s.box[1]), fmin(s.box[2], s.box[3])) : s.farthest) < LEAST_SHARE ||
			 (s.n == 5 ? fmax(fmax(s.box[0], s.box[1]), fmax(s.box[2], s.box[3])) : s.farthest) > MOST_SHARE)
		qlt_problem(r, line, NULL, "not_normalised", "%g is no share of the image's width or height, 0 to 1", s.farthest);
	else
	{
		bool		polygon = s.n > 5;
		double		w = r->width,
					h = r->height;

		if (floating)
			qlt_problem(r, line, NULL, "class_float", "the class is written with a decimal point; it was taken as %d", label.class_id);
		label.has_box = true;
		label.box[0] = (polygon ? s.bounds[0] : s.box[0] - s.box[2] / 2) * w;
		label.box[1] = (polygon ? s.bounds[1] : s.box[1] - s.box[3] / 2) * h;
		label.box[2] = (polygon ? s.bounds[2] : s.box[0] + s.box[2] / 2) * w;
		label.box[3] = (polygon ? s.bounds[3] : s.box[1] + s.box[3] / 2) * h;
		if (polygon)
			label.area = fabs(s.twice_area + s.last[0] * s.start[1] - s.start[0] * s.last[1]) / 2 * w * h;
		qlt_give_label(r, &label);
	}
	return MR_OK;
}

mr_code
qlt_read_yolo(qlt_reader *r)
{
	int64_t		line = 0;
	bool		sized = r->width > 0 && r->height > 0;

	for (const char *p = r->text; p < r->end;)
	{
		const char *eol = memchr(p, '\n', (size_t) (r->end - p));
		const char *word;
		const char *rest = p;
		size_t		len;
		mr_code		code = line % 1024 == 0 ? qlt_go_on(r) : MR_OK;

		if (eol == NULL)
			eol = r->end;
		line++;
		if (code == MR_OK && !sized && next_word(&rest, eol, &word, &len))
		{
			qlt_problem(r, line, NULL, "size_unknown", "boxes are shares of an image whose width and height cannot be read");
			return MR_OK;
		}
		if (code == MR_OK)
			code = read_line(r, line, p, eol);
		if (code != MR_OK)
			return code;
		p = eol + 1;
	}
	return MR_OK;
}

mr_code
qlt_read_names(qlt_reader *r, bool classes)
{
	int64_t		line = 0;
	int			next = 0;

	for (const char *p = r->text; p < r->end;)
	{
		const char *eol = memchr(p, '\n', (size_t) (r->end - p));
		const char *end;
		qlt_label	label = QLT_NO_LABEL;
		char		name[QLT_NAME_LEN + 1];
		mr_code		code = line % 1024 == 0 ? qlt_go_on(r) : MR_OK;

		if (code != MR_OK)
			return code;
		if (eol == NULL)
			eol = r->end;
		line++;
		for (end = eol; end > p && is_space(end[-1]); end--)
			;
		while (p < end && is_space(*p))
			p++;
		label.line = line;
		if (end - p > QLT_NAME_LEN)
			qlt_problem(r, line, NULL, "name_too_long", "a name of %zu bytes", (size_t) (end - p));
		else if (end > p)
		{
			memcpy(name, p, (size_t) (end - p));
			name[end - p] = '\0';
			if (classes)
			{
				label.class_id = next++;
				label.class_name = name;
			}
			else
				label.image = name;
			qlt_give(r, &label);
		}
		p = eol + 1;
	}
	return MR_OK;
}
