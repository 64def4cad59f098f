/*
 * draw.h
 *	  Pictures for people: boxes with labels on an image, sheets of images.
 *
 * Pure core; the drawing is on img_pixels, clipped to them, whatever the
 * coordinates.  Texts are UTF-8 of any length and content: what is no
 * character is drawn as U+FFFD, control characters as spaces.  There is no
 * shaping and no right-to-left order: letters stand one after the other.
 *
 * Fonts are FreeType's.  Its memory comes from env, so that an error leaks
 * nothing; a file that cannot be opened is passed over, and a character that
 * no font has is drawn as an empty box.
 */
#ifndef MILLRACE_IMAGE_DRAW_H
#define MILLRACE_IMAGE_DRAW_H

#include "image/image.h"

typedef struct img_colour
{
	uint8_t		r,
				g,
				b;
} img_colour;

typedef struct img_rect
{
	int			x0,				/* the first column and row */
				y0,
				x1,				/* the first that is outside */
				y1;
} img_rect;

/* draw.c */
extern void img_fill(img_pixels *to, img_rect r, img_colour c);
extern void img_frame(img_pixels *to, img_rect r, int thickness, img_colour c);	/* inwards from r */

/* Mix c into width x height pixels at (x, y) by coverage, 0 to 255, pitch bytes a row. */
extern void img_stamp(img_pixels *to, int x, int y, const uint8_t *coverage, int width, int height,
					  ptrdiff_t pitch, img_colour c);

/* A class's own colour: neighbouring numbers differ most; any number. */
extern img_colour img_class_colour(int class_id);

/* Black or white, whichever stands out more from c. */
extern img_colour img_text_colour(img_colour c);

/* font.c */
typedef struct img_font img_font;

/* Files in the order in which they are asked for a character; none at all is allowed. */
extern mr_code img_font_open(const mr_env *env, const char *const *files, int n_files, img_font **out, mr_status *st);
extern void img_font_close(img_font *font);

/* Does any file open?  If not, all characters are empty boxes. */
extern bool img_font_usable(img_font *font);

#define IMG_FONT_SMALLEST 6
#define IMG_FONT_LARGEST 200

/* Pixels of an em; clamped to the range above. */
extern void img_font_size(img_font *font, int pixels);
extern int	img_font_ascent(img_font *font);	/* above the base line */
extern int	img_font_height(img_font *font);	/* of a line, ascent included */

/* Width of the text, at most max_width: longer ones are cut with an ellipsis. */
extern int	img_text_width(img_font *font, const char *text, size_t len, int max_width);

/* Draw it with its upper left corner at (x, y); returns the width. */
extern int	img_text(img_pixels *to, img_font *font, int x, int y, int max_width,
					 const char *text, size_t len, img_colour c);

/* annotate.c */
typedef struct img_object
{
	int			class_id;
	const char *label;			/* UTF-8, not terminated; NULL: none */
	size_t		label_len;
	float		x1,				/* pixels of the upright image */
				y1,
				x2,
				y2;
} img_object;

typedef struct img_annotation
{
	int			line_width;		/* 0: by the image's size */
	int			font_size;		/* 0: by the image's size */
	bool		all_labels;		/* even those that hide others, or most of the image */
} img_annotation;

/*
 * Draw objects and their labels.  Boxes that are no boxes (not a number, no
 * area, wholly outside) are passed over, others clipped.  Small boxes are drawn
 * over large ones.  Labels stay within the image; in the order of the objects
 * each takes the place beside its box where it hides least; one that has no
 * place, or is taller than a quarter of the image, is left out.  MR_CANCELED, MR_NOMEM.
 */
extern mr_code img_annotate(const mr_env *env, img_pixels *to, img_font *font, const img_object *objects, int n,
							const img_annotation *how, mr_status *st);

/* sheet.c */
typedef struct img_sheet_plan
{
	int			tiles,
				columns;
	int			tile;			/* pixels of a side */
	int			caption_lines;	/* below each tile, 0 to 2 */
	const char *title;			/* UTF-8, terminated; NULL: none */
} img_sheet_plan;

typedef struct img_sheet img_sheet;

/* A white sheet with its title.  MR_LIMIT if it exceeds limits. */
extern mr_code img_sheet_begin(const mr_env *env, const img_sheet_plan *plan, img_font *font, const img_limits *limits,
							   img_sheet **out, mr_status *st);

/*
 * The next tile: an image file (data NULL: none) with its boxes, in its own
 * pixels, and its caption.  A bad image is a grey tile that says why.
 */
extern mr_code img_sheet_add(img_sheet *sheet, const uint8_t *data, size_t len, const img_object *objects, int n,
							 const char *caption, size_t caption_len, mr_status *st);

/* The picture; the sheet's, freed with it. */
extern const img_pixels *img_sheet_pixels(const img_sheet *sheet);
extern void img_sheet_end(img_sheet *sheet);

#endif							/* MILLRACE_IMAGE_DRAW_H */
