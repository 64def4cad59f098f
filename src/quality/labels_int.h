/*
 * labels_int.h
 *	  What the readers of annotation files share.  See labels.h.
 */
#ifndef MILLRACE_LABELS_INT_H
#define MILLRACE_LABELS_INT_H

#include "quality/labels.h"

typedef struct qlt_reader
{
	const mr_env *env;
	mr_status  *st;
	const char *text;			/* UTF-8, behind a byte order mark */
	const char *end;
	int			width;
	int			height;
	qlt_label_sink sink;
	void	   *arg;
	int64_t		problems;
	/* lines are counted as far as somebody asked */
	const char *counted;
	int64_t		line;
} qlt_reader;

/* A row with nothing in it. */
#define QLT_NO_LABEL ((qlt_label) {.class_id = -1,.area = -1})

extern mr_code qlt_read_yolo(qlt_reader *r);
extern mr_code qlt_read_yaml(qlt_reader *r);
extern mr_code qlt_read_names(qlt_reader *r, bool classes);
extern mr_code qlt_read_coco(qlt_reader *r);
extern mr_code qlt_read_voc(qlt_reader *r, bool from_one);

/* Hand a row on. */
extern void qlt_give(qlt_reader *r, const qlt_label *label);

/* Hand a label on, unless its box is no box: then that is a problem of image. */
extern void qlt_give_label(qlt_reader *r, const qlt_label *label);

/* A row that says what is wrong; the first QLT_MAX_PROBLEMS are handed on. */
extern void qlt_problem(qlt_reader *r, int64_t line, const char *image, const char *kind, const char *fmt,...) MR_PRINTF(5, 6);

/* The line p is in.  Asked in rising order this reads the text once. */
extern int64_t qlt_line(qlt_reader *r, const char *p);

/* MR_CANCELED if the work shall stop. */
extern mr_code qlt_go_on(const qlt_reader *r);

/* How much of [p, p + len) fits into most bytes without cutting a character. */
extern int	qlt_cut(const char *p, size_t len, int most);

typedef enum qlt_number
{
	QLT_NUMBER,
	QLT_NOT_A_NUMBER,
	QLT_NOT_FINITE,				/* nan, inf */
	QLT_TOO_LARGE
} qlt_number;

/* A decimal number as Python's float() reads it, whatever the locale. */
extern qlt_number qlt_parse_number(const char *p, size_t len, double *value);

/* The kind of problem that a number is. */
extern const char *qlt_number_problem(qlt_number what);

/* A word [p, len) as a class number: NULL, or the kind of problem; *floating: written 3.0. */
extern const char *qlt_parse_class(const char *p, size_t len, int *class_id, bool *floating);

#endif							/* MILLRACE_LABELS_INT_H */
