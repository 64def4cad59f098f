/*
 * labels_coco_int.h
 *	  What the two halves of COCO's reader share.  See labels_coco.c.
 */
#ifndef MILLRACE_LABELS_COCO_INT_H
#define MILLRACE_LABELS_COCO_INT_H

#include "core/json.h"
#include "quality/labels_int.h"

/* Something with a number, and its name as the file has it. */
typedef struct coco_entry
{
	int64_t		id;
	const char *name;			/* within quotes; NULL: a free place */
	uint32_t	len;
	bool		escaped;
} coco_entry;

/* Open addressing; a power of two of places, at most half of them taken. */
typedef struct coco_table
{
	coco_entry *entry;
	size_t		places;
	size_t		used;
} coco_table;

typedef struct coco_span
{
	const char *p;				/* NULL: not there */
	const char *end;
} coco_span;

typedef struct coco
{
	qlt_reader *r;
	coco_table	images;
	coco_table	categories;
	mr_status	st;				/* of the JSON being read */
	char		image[QLT_NAME_LEN + 1];
	char		class_name[QLT_NAME_LEN + 1];
} coco;

/* What an object of any of the arrays may have. */
enum
{
	HAS_ID = 1, HAS_FILE = 2, HAS_NAME = 4, HAS_WIDTH = 8, HAS_HEIGHT = 16, HAS_IMAGE = 32, HAS_CATEGORY = 64, HAS_BOX = 128,
	HAS_AREA = 256, HAS_CROWD = 512, HAS_POLYGON = 1024
};

typedef struct coco_object
{
	int			has;
	int64_t		line;
	int64_t		id;
	int64_t		image_id;
	int64_t		category_id;
	coco_entry	name;
	double		width;
	double		height;
	double		area;
	double		crowd;
	double		box[4];
	const char *polygons;		/* where "segmentation" begins; read only where there is no box */
} coco_object;

/*
 * Read the members of the object s that are in wanted; name: room for its name,
 * QLT_NAME_LEN + 1 bytes.  false: a problem was handed on.
 */
extern bool qlt_coco_object(coco *c, const char *what, coco_span s, int wanted, coco_object *o, char *name);

/* Is all there that is needed?  If not, that is a problem. */
extern bool qlt_coco_has(coco *c, const char *what, const coco_object *o, int needed);

/* A name as the file has it, without its escapes, in out: NULL, or the kind of problem. */
extern const char *qlt_coco_name(coco *c, const char *name, size_t len, bool escaped, char *out);

/* The bounds of polygons [[x, y, …], …] at js; RLE gives none.  NULL, or the kind of problem. */
extern const char *qlt_coco_polygons(mr_json *js, double *box, bool *found);

/* Behind the value at p, counting brackets; NULL in *after: it does not end. */
extern mr_code qlt_coco_skip(const qlt_reader *r, const char *p, const char **after);

static inline const char *
qlt_coco_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
		p++;
	return p;
}

#endif							/* MILLRACE_LABELS_COCO_INT_H */
