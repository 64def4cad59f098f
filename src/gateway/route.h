/*
 * route.h
 *	  Paths of requests, and the patterns of routes that they match.  Pure.
 *
 * A path is taken apart at its slashes, and only then unescaped, so that %2F is a letter of a segment and no
 * slash.  What looks like a trick (a bad escape, NUL, text that is not UTF-8, the segments . and ..) is no path.
 * An empty segment, as of // or a slash at the end, is one that nothing matches.
 */
#ifndef MILLRACE_GATEWAY_ROUTE_H
#define MILLRACE_GATEWAY_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/request.h"

#define GW_MAX_SEGMENTS 32

typedef struct gw_bytes
{
	const char *p;
	size_t		len;
} gw_bytes;

typedef struct gw_path
{
	int			n;				/* 0: "/" */
	gw_bytes	segment[GW_MAX_SEGMENTS];
} gw_path;

typedef struct gw_pattern
{
	gw_method	method;
	const void *route;			/* the caller's */
	int			n;
	gw_bytes	segment[GW_MAX_SEGMENTS];	/* a fixed word, or the name of a parameter */
	unsigned	names;			/* bit i: segment i is a parameter */
} gw_pattern;

/* Take a path apart, unescaping it in place; its bytes stay the caller's.  False: it is none. */
extern bool gw_path_parse(char *text, size_t len, gw_path *out);

/* Take a pattern apart: /status/{question_id}.  Its bytes stay the caller's.  False: it has too many segments. */
extern bool gw_pattern_parse(const char *text, gw_pattern *out);

/*
 * Number of the pattern that a request is for: a word beats a parameter, from the left; of equals the first wins.
 * -1: none; *allowed then has a bit per method that the path has.
 */
extern int	gw_route_match(const gw_pattern *patterns, int n, const gw_path *path, gw_method method, unsigned *allowed);

/* By its number, "other" beyond; and back, GW_N_METHODS: none of ours. */
extern const char *gw_method_name(gw_method method);
extern gw_method gw_method_named(const char *name);

/* "GET, HEAD, …" of such bits; out holds 64 bytes. */
extern void gw_allow(unsigned allowed, char *out);

/* %XX (and, in a query, + for a space) of len bytes resolved in place.  New length, or -1: a bad escape, NUL, not UTF-8. */
extern long gw_unescape(char *text, size_t len, bool plus);

#endif							/* MILLRACE_GATEWAY_ROUTE_H */
