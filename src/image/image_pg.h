/*
 * image_pg.h
 *	  What other rooms' glue may ask of this room's glue.
 */
#ifndef MILLRACE_IMAGE_PG_H
#define MILLRACE_IMAGE_PG_H

#include "image/image.h"

/* The limits as the session's settings have them now; valid until the next call. */
extern const img_limits *img_current_limits(void);

/*
 * A bytea value's pixels, whole and upright.  A value too large is refused
 * before it is fetched from TOAST.  info may be NULL.
 */
extern mr_code img_decode_value(const mr_env *env, Datum image, img_info *info, img_pixels *pixels, mr_status *st);

/* look_pg.c's settings */
extern void image_look_init(void);

#endif							/* MILLRACE_IMAGE_PG_H */
