/*
 * kernels_low_portable.c
 *	  Everything of few bits but the tiles, for any CPU.
 */
#include "nn/kernels_low_core.h"
#include "nn/vec_portable.h"

#define BODY portable
#define ACTIVATE nn_kernels_portable.activate
#include "nn/kernels_low_body.h"
