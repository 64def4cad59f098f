/*
 * image_pg.h
 *	  What other rooms' glue may ask of this room's glue.
 */
#ifndef MILLRACE_IMAGE_PG_H
#define MILLRACE_IMAGE_PG_H

#include "image/image.h"

/* The limits as the session's settings have them now; valid until the next call. */
extern const img_limits *img_current_limits(void);

#endif							/* MILLRACE_IMAGE_PG_H */
