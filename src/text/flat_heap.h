/*
 * flat_heap.h
 *	  A binary heap of lower bounds in an array, the least on top.
 */
#ifndef MILLRACE_TEXT_FLAT_HEAP_H
#define MILLRACE_TEXT_FLAT_HEAP_H

#include <stddef.h>
#include <stdint.h>

typedef struct flat_bound
{
	double		bound;
	uint32_t	number;			/* of the vector; ties by it */
} flat_bound;

static inline int
flat_before(flat_bound a, flat_bound b)
{
	return a.bound < b.bound || (a.bound == b.bound && a.number < b.number);
}

/* Put b where place i is empty and everything below is in order. */
static inline void
flat_heap_sink(flat_bound *heap, size_t n, size_t i, flat_bound b)
{
	for (size_t child; (child = 2 * i + 1) < n; i = child)
	{
		if (child + 1 < n && flat_before(heap[child + 1], heap[child]))
			child++;
		if (!flat_before(heap[child], b))
			break;
		heap[i] = heap[child];
	}
	heap[i] = b;
}

static inline void
flat_heapify(flat_bound *heap, size_t n)
{
	for (size_t i = n / 2; i-- > 0;)
		flat_heap_sink(heap, n, i, heap[i]);
}

/* The array has room for one more. */
static inline void
flat_heap_push(flat_bound *heap, size_t *n, flat_bound b)
{
	size_t		i = (*n)++;

	for (; i > 0 && flat_before(b, heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = b;
}

/* Replace the least. */
static inline void
flat_heap_replace(flat_bound *heap, size_t n, flat_bound b)
{
	flat_heap_sink(heap, n, 0, b);
}

static inline flat_bound
flat_heap_pop(flat_bound *heap, size_t *n)
{
	flat_bound	least = heap[0];

	if (--*n > 0)
		flat_heap_sink(heap, *n, 0, heap[*n]);
	return least;
}

#endif							/* MILLRACE_TEXT_FLAT_HEAP_H */
