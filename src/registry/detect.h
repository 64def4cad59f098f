/*
 * detect.h
 *	  Detectors, for the glue of room quality: an image through a network, as a
 *	  letterbox.
 */
#ifndef MILLRACE_REGISTRY_DETECT_H
#define MILLRACE_REGISTRY_DETECT_H

#include "image/image.h"
#include "nn/nn.h"
#include "registry/registry.h"

/* What a network said of an image. */
typedef struct reg_seen
{
	img_letterbox box;			/* where the image was in its input */
	const nn_tensor_info *output;	/* the one that its specification names, else the first */
	nn_shape	shape;			/* what that became */
	const float *numbers;		/* in work memory: until the next run */
} reg_seen;

/*
 * Decode, letterbox to the model's input size (one that is open: to 640 pixels a
 * side at most, and bars only up to a multiple of 32, unless the specification says
 * a size) and run.  A bad image returns its failure in st; whatever is wrong
 * with the model or the system raises.  Cancel raises.
 */
extern mr_code reg_see(const reg_model *model, const uint8 *image, size_t size, reg_seen *out, mr_status *st);

/* A SHA-256 of all that decides an answer: the image, the model's bytes and
 * specification, the instruction set, and what else was asked, as bytes. */
extern void reg_question_key(const reg_model *model, const uint8 *image, size_t size, const void *asked, size_t asked_size,
							 uint8 key[32]);

#endif							/* MILLRACE_REGISTRY_DETECT_H */
