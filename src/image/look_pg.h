/*
 * look_pg.h
 *	  Options of image_annotate() and image_sheet().
 */
#ifndef MILLRACE_IMAGE_LOOK_PG_H
#define MILLRACE_IMAGE_LOOK_PG_H

#include "postgres.h"

#include "utils/jsonb.h"

typedef enum look_for
{
	look_for_annotate = 1,
	look_for_sheet = 2
} look_for;

typedef enum look_labels
{
	labels_fitting,				/* those that hide no others */
	labels_all,
	labels_none
} look_labels;

/* Numbers of 0 are worked out by the picture's size. */
typedef struct look_options
{
	bool		png;
	int			quality;
	look_labels labels;
	bool		confidence;		/* behind the name */
	int			line_width;
	int			font_size;
	int			scale;
	int			columns;
	int			tile;
	char	   *title;
	JsonbContainer *boxes;		/* an array */
} look_options;

/* Over what *opt holds; ERROR at what a function does not know. */
extern void look_read_options(Jsonb *options, look_for who, look_options *opt);
extern void look_read_format(const char *format, look_options *opt);

/* A number, NaN if it is not there or null. */
extern double look_member(JsonbContainer *object, const char *name);

extern _Noreturn void look_bad_option(const char *name, const char *must);

#endif							/* MILLRACE_IMAGE_LOOK_PG_H */
