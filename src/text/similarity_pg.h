/*
 * similarity_pg.h
 *	  real[] as vectors: what the operators and the access method refuse, in the same words.
 */
#ifndef MILLRACE_TEXT_SIMILARITY_PG_H
#define MILLRACE_TEXT_SIMILARITY_PG_H

#include "text/similarity.h"
#include "utils/array.h"

/* The elements of a plain real[], *n of them; ERROR unless it has one dimension, an element and no NULL.
 * Points into the array. */
extern const float *sim_array(const ArrayType *array, int *n);

/* ERROR that names the first element that is NaN or infinite; to be called when a sum shows that one is. */
extern void sim_check_finite(const float *vector, int n);

/* ERROR: vectors of different dimensions. */
extern _Noreturn void sim_different(int a, int b);

#endif							/* MILLRACE_TEXT_SIMILARITY_PG_H */
