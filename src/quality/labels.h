/*
 * labels.h
 *	  Annotation files of detection data sets as rows: YOLO, COCO, Pascal VOC.
 *
 * Nothing that a file contains is an error: a label that cannot be read is a
 * row with a problem, and the reader goes on behind it.  Errors are MR_CANCELED,
 * MR_NOMEM and, for a format that is not one, MR_INVALID.
 *
 * Boxes come out in pixels of the upright image, corners, the right and lower
 * one exclusive; as the file says them, however wrong, as long as they are
 * finite and below QLT_PIXEL_LIMIT.
 *
 * Memory: what the caller gives stays his; a reader needs a few kB, that of COCO
 * also up to 100 bytes for each image the file names (QLT_COCO_ENTRIES at
 * most).  Strings of a row are valid until the sink returns.
 */
#ifndef MILLRACE_LABELS_H
#define MILLRACE_LABELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/env.h"
#include "core/status.h"

#define QLT_PIXEL_LIMIT 1e7		/* farther out no box is taken for one */
#define QLT_MAX_PROBLEMS 1000	/* of one file; the others are counted */
#define QLT_COCO_ENTRIES (1 << 22)	/* images of one COCO file */
#define QLT_NAME_LEN 1024		/* bytes of a class's or file's name */

/*
 * What one row says:
 *	a label		class, and a box or none (image NULL: the file's own image)
 *	a class		class_id and class_name, neither image nor box
 *	an image	image; box 0, 0, width, height where the file tells its size
 *	a setting	image is the value, detail its key (data.yaml: path, train …)
 *	a problem	problem says which kind, detail what was seen
 */
typedef struct qlt_label
{
	int64_t		line;			/* from 1; 0: none */
	const char *image;			/* NULL: not said */
	int			class_id;		/* -1: not said */
	const char *class_name;		/* NULL: not said */
	bool		has_box;
	double		box[4];			/* x1, y1, x2, y2 */
	bool		crowd;
	double		area;			/* -1: not said */
	const char *problem;		/* NULL: none */
	const char *detail;
} qlt_label;

/* Takes a row.  It may jump: nothing but env's memory is open then. */
typedef void (*qlt_label_sink) (void *arg, const qlt_label *label);

typedef enum qlt_label_format
{
	QLT_YOLO,					/* class and box or polygon a line, 0..1 */
	QLT_YAML,					/* YOLO's data.yaml */
	QLT_NAMES,					/* a class a line: classes.txt */
	QLT_LIST,					/* an image a line: train.txt, ImageSets/Main */
	QLT_COCO,
	QLT_VOC,					/* corners from 1, inclusive, as the VOC devkit has it */
	QLT_VOC_ZERO				/* corners from 0, exclusive, as some tools write it */
} qlt_label_format;

/* false if there is no such format. */
extern bool qlt_label_format_by_name(const char *name, qlt_label_format *format);

/*
 * Read a file.  width and height: of the upright image, 0 where not known; only
 * YOLO needs them.
 */
extern mr_code qlt_labels_read(const mr_env *env, qlt_label_format format, const char *content, size_t len,
							   int width, int height, qlt_label_sink sink, void *arg, mr_status *st);

#endif							/* MILLRACE_LABELS_H */
