/*
 * labels.c
 *	  Annotation files: which reader, is it text at all, rows and problems.
 *	  See labels.h.
 */
#include "quality/labels_int.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/utf8.h"

#define PIECE (1 << 20)			/* bytes looked at between two questions whether to stop */
#define SMALL_FILE (4 << 20)	/* most of a data.yaml, and of an XML file: one image */

bool
qlt_label_format_by_name(const char *name, qlt_label_format *format)
{
	static const char *const names[] = {"yolo", "yaml", "names", "list", "coco", "voc", "voc0"};

	for (int i = 0; i < (int) (sizeof(names) / sizeof(names[0])); i++)
		if (strcmp(name, names[i]) == 0)
		{
			*format = (qlt_label_format) i;
			return true;
		}
	return false;
}

void
qlt_give(qlt_reader *r, const qlt_label *label)
{
	r->sink(r->arg, label);
}

void
qlt_problem(qlt_reader *r, int64_t line, const char *image, const char *kind, const char *fmt,...)
{
	qlt_label	label = QLT_NO_LABEL;
	char		detail[512];
	va_list		args;

	if (++r->problems > QLT_MAX_PROBLEMS)
		return;
	va_start(args, fmt);
	if (vsnprintf(detail, sizeof(detail), fmt, args) >= (int) sizeof(detail))
		detail[qlt_cut(detail, sizeof(detail) - 1, sizeof(detail) - 5)] = '\0';
	va_end(args);
	label.line = line;
	label.image = image;
	label.problem = kind;
	label.detail = detail;
	qlt_give(r, &label);
}

void
qlt_give_label(qlt_reader *r, const qlt_label *label)
{
	for (int i = 0; label->has_box && i < 4; i++)
		if (!(fabs(label->box[i]) <= QLT_PIXEL_LIMIT))
		{
			qlt_problem(r, label->line, label->image, "number_too_large", "a box reaches to %g pixels", label->box[i]);
			return;
		}
	qlt_give(r, label);
}

int64_t
qlt_line(qlt_reader *r, const char *p)
{
	if (p < r->counted)
	{
		r->counted = r->text;
		r->line = 1;
	}
	while (r->counted < p)
	{
		const char *at = memchr(r->counted, '\n', (size_t) (p - r->counted));

		r->line += at != NULL;
		r->counted = at ? at + 1 : p;
	}
	return r->line;
}

mr_code
qlt_go_on(const qlt_reader *r)
{
	if (mr_interrupted(r->env))
		return mr_fail(r->st, MR_CANCELED, "canceled");
	return MR_OK;
}

int
qlt_cut(const char *p, size_t len, int most)
{
	int			n = most;

	if (len <= (size_t) most)
		return (int) len;
	while (n > 0 && ((unsigned char) p[n] & 0xc0) == 0x80)
		n--;
	return n;
}

qlt_number
qlt_parse_number(const char *p, size_t len, double *value)
{
	const char *end = p + len;
	const char *word = p;
	char		copy[64];
	size_t		digits = 0;

	if (word < end && (*word == '+' || *word == '-'))
		word++;
	if ((end - word == 3 && (strncasecmp(word, "nan", 3) == 0 || strncasecmp(word, "inf", 3) == 0)) ||
		(end - word == 8 && strncasecmp(word, "infinity", 8) == 0))
		return QLT_NOT_FINITE;
	for (; word < end && *word >= '0' && *word <= '9'; word++)
		digits++;
	if (word < end && *word == '.')
		for (word++; word < end && *word >= '0' && *word <= '9'; word++)
			digits++;
	if (digits > 0 && word < end && (*word == 'e' || *word == 'E'))
	{
		const char *first;

		word++;
		if (word < end && (*word == '+' || *word == '-'))
			word++;
		for (first = word; word < end && *word >= '0' && *word <= '9'; word++)
			;
		if (word == first)
			return QLT_NOT_A_NUMBER;
	}
	if (digits == 0 || word != end || len >= sizeof(copy))
		return QLT_NOT_A_NUMBER;
	memcpy(copy, p, len);
	copy[len] = '\0';
	*value = strtod(copy, NULL);	/* LC_NUMERIC is C in a server */
	return isfinite(*value) ? QLT_NUMBER : QLT_TOO_LARGE;
}

const char *
qlt_number_problem(qlt_number what)
{
	return what == QLT_NOT_A_NUMBER ? "not_a_number" : what == QLT_NOT_FINITE ? "not_finite" : "number_too_large";
}

const char *
qlt_parse_class(const char *p, size_t len, int *class_id, bool *floating)
{
	double		value;
	qlt_number	what = qlt_parse_number(p, len, &value);

	*floating = false;
	if (what == QLT_NOT_FINITE || what == QLT_TOO_LARGE)
		return qlt_number_problem(what);
	if (what == QLT_NOT_A_NUMBER || value != floor(value))
		return "class_not_integer";
	if (value < 0)
		return "class_negative";
	if (value > INT32_MAX)
		return "class_too_large";
	*class_id = (int) value;
	*floating = memchr(p, '.', len) != NULL || memchr(p, 'e', len) != NULL || memchr(p, 'E', len) != NULL;
	return NULL;
}

/* Is it UTF-8 text?  If not, that is the file's only row. */
static mr_code
check_text(qlt_reader *r, bool *text)
{
	const unsigned char *bytes = (const unsigned char *) r->text;
	size_t		len = (size_t) (r->end - r->text);
	size_t		controls = 0;

	*text = false;
	if (len >= 2 && ((bytes[0] == 0xff && bytes[1] == 0xfe) || (bytes[0] == 0xfe && bytes[1] == 0xff)))
	{
		qlt_problem(r, 0, NULL, "utf16_file", "the file is UTF-16: save it as UTF-8");
		return MR_OK;
	}
	if (len >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0)
		r->text += 3;
	for (const char *p = r->text; p < r->end;)
	{
		size_t		n = (size_t) (r->end - p);
		mr_code		code = qlt_go_on(r);

		if (code != MR_OK)
			return code;
		if (n > PIECE)
			n = (size_t) qlt_cut(p, n, PIECE);
		if (n > 0 && memchr(p, '\0', n) != NULL)
		{
			bool		halves = p == r->text && len >= 4 && len % 2 == 0 && (bytes[0] == 0) != (bytes[1] == 0) && (bytes[0] == 0) == (bytes[2] == 0);

			qlt_problem(r, 0, NULL, halves ? "utf16_file" : "binary_file", halves ? "the file is UTF-16: save it as UTF-8" : "the file is no text: it has bytes that are zero");
			return MR_OK;
		}
		if (n == 0 || !mr_utf8(p, n))
		{
			qlt_problem(r, 0, NULL, "invalid_utf8", "the file is not UTF-8");
			return MR_OK;
		}
		if (p == r->text)
			for (size_t i = 0; i < n && i < 4096; i++)
				controls += (unsigned char) p[i] < 0x20 && p[i] != '\t' && p[i] != '\n' && p[i] != '\r' && p[i] != '\f';
		p += n;
	}
	if (controls > 0)
	{
		qlt_problem(r, 0, NULL, "binary_file", "the file is no text: it has control characters");
		return MR_OK;
	}
	r->counted = r->text;
	*text = true;
	return MR_OK;
}

mr_code
qlt_labels_read(const mr_env *env, qlt_label_format format, const char *content, size_t len,
				int width, int height, qlt_label_sink sink, void *arg, mr_status *st)
{
	qlt_reader	r = {.env = env,.st = st,.text = content,.end = content + len,.width = width,.height = height,
	.sink = sink,.arg = arg,.counted = content,.line = 1};
	bool		text;
	bool		blank = true;
	mr_code		code = check_text(&r, &text);

	if (code != MR_OK || !text)
		return code;
	for (const char *p = r.text; blank && p < r.end; p++)
	{
		blank = *p == ' ' || *p == '\t' || *p == '\r' || *p == '\n';
		if ((p - r.text) % PIECE == 0 && (code = qlt_go_on(&r)) != MR_OK)
			return code;
	}
	/* Without labels a YOLO image shows nothing, and a list nothing. */
	if (blank)
	{
		if (format != QLT_YOLO && format != QLT_LIST)
			qlt_problem(&r, 0, NULL, "empty_file", "the file is empty");
		return MR_OK;
	}
	if (len > SMALL_FILE && (format == QLT_YAML || format == QLT_VOC || format == QLT_VOC_ZERO))
	{
		qlt_problem(&r, 0, NULL, "file_too_large", "a file of this kind may have %d bytes", SMALL_FILE);
		return MR_OK;
	}
	switch (format)
	{
		case QLT_YOLO:
			code = qlt_read_yolo(&r);
			break;
		case QLT_YAML:
			code = qlt_read_yaml(&r);
			break;
		case QLT_NAMES:
		case QLT_LIST:
			code = qlt_read_names(&r, format == QLT_NAMES);
			break;
		case QLT_COCO:
			code = qlt_read_coco(&r);
			break;
		case QLT_VOC:
		case QLT_VOC_ZERO:
			code = qlt_read_voc(&r, format == QLT_VOC);
			break;
	}
	if (code == MR_OK && r.problems > QLT_MAX_PROBLEMS)
	{
		int64_t		more = r.problems - QLT_MAX_PROBLEMS;

		r.problems = 0;
		qlt_problem(&r, 0, NULL, "more_problems", "%lld further problems of this file are not listed", (long long) more);
	}
	return code;
}
