/*
 * env.h
 *	  What a core may ask of its surroundings: memory and whether to stop.
 *
 * In the server the memory comes from a MemoryContext that the glue resets, so
 * an error or a cancel leaks nothing; in unit tests it comes from malloc().
 * alloc() returns NULL when memory is exhausted and never jumps: it may be
 * called from inside libjpeg's and libpng's frames.
 */
#ifndef MILLRACE_ENV_H
#define MILLRACE_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_env
{
	void	   *(*alloc) (void *arg, size_t size);	/* 64-byte aligned, not zeroed */
	void		(*release) (void *arg, void *ptr);	/* NULL allowed */
	bool		(*interrupted) (void *arg); /* true: unwind with MR_CANCELED */
	void	   *arg;
} mr_env;

/* The plain environment: aligned malloc, never interrupted. */
extern const mr_env mr_env_malloc;

static inline void *
mr_alloc(const mr_env *env, size_t size)
{
	return env->alloc(env->arg, size);
}

static inline void
mr_free(const mr_env *env, void *ptr)
{
	if (ptr)
		env->release(env->arg, ptr);
}

/* To be asked at least every 10 ms of work. */
static inline bool
mr_interrupted(const mr_env *env)
{
	return env->interrupted(env->arg);
}

/* Sizes are multiplied and added through these: false on overflow. */
static inline bool
mr_mul_size(size_t a, size_t b, size_t *out)
{
	return !__builtin_mul_overflow(a, b, out);
}

static inline bool
mr_add_size(size_t a, size_t b, size_t *out)
{
	return !__builtin_add_overflow(a, b, out);
}

#endif							/* MILLRACE_ENV_H */
