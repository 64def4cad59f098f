/*
 * jpeg_error.h
 *	  libjpeg's errors as mr_status, for decoding and encoding.
 *
 * libjpeg cannot return errors: its error_exit must not come back.  It jumps to
 * the setjmp of the one function that runs the codec; that function has no
 * local variables that matter, everything lives in a job of its caller's frame
 * (no clobbered locals), and the caller destroys the codec on every path.
 */
#ifndef MILLRACE_JPEG_ERROR_H
#define MILLRACE_JPEG_ERROR_H

#include <setjmp.h>
#include <stdio.h>				/* jpeglib.h needs it */
#include <jpeglib.h>

#include "core/status.h"

typedef struct img_jpeg_error
{
	struct jpeg_error_mgr pub;	/* first: libjpeg only knows this part */
	jmp_buf		jump;
	const char *what;			/* begins the message: "invalid JPEG image" */
	mr_code		code;
	mr_status  *st;
} img_jpeg_error;

extern struct jpeg_error_mgr *img_jpeg_error_init(img_jpeg_error *err, const char *what, mr_status *st);

/* For what we find wrong ourselves while libjpeg's frames are on the stack:
 * the status is set already. */
extern void img_jpeg_throw(img_jpeg_error *err, mr_code code) __attribute__((noreturn));

#endif							/* MILLRACE_JPEG_ERROR_H */
