/*
 * form.h
 *	  What the head and the body of a request say: queries, forms, media types, credentials.  Pure.
 *
 * Everything is resolved in place, and named by slices of what was given; nothing is allocated.
 */
#ifndef MILLRACE_GATEWAY_FORM_H
#define MILLRACE_GATEWAY_FORM_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/request.h"
#include "gateway/route.h"

typedef struct gw_field
{
	gw_source	source;
	gw_bytes	name;
	gw_bytes	value;
	gw_bytes	filename;		/* of GW_FILE */
	gw_bytes	type;			/* of GW_FILE */
} gw_field;

/* Fields of a request, as they came; a name may come again. */
typedef struct gw_fields
{
	int			n;
	gw_field	field[GW_MAX_VALUES];
} gw_fields;

/* These return NULL, or what is wrong: a static text. */

/* a=b&c=d, of a query or a form */
extern const char *gw_fields_read(char *text, size_t len, gw_source source, gw_fields *out);

/* multipart/form-data; boundary without its dashes */
extern const char *gw_multipart_read(char *text, size_t len, gw_bytes boundary, gw_fields *out);

extern const char *gw_fields_add(gw_fields *out, const gw_field *field);

typedef enum gw_media
{
	GW_MEDIA_NONE,				/* not said */
	GW_MEDIA_JSON,				/* application/json, application/…+json */
	GW_MEDIA_FORM,
	GW_MEDIA_MULTIPART,
	GW_MEDIA_OTHER
} gw_media;

/* A Content-Type (NULL: none).  boundary: of multipart, in text, which is changed where it is quoted.  charset: "" if not said. */
extern gw_media gw_media_read(char *text, gw_bytes *boundary, gw_bytes *charset);

#define GW_MAX_TOKEN 200

typedef enum gw_auth
{
	GW_AUTH_NONE,
	GW_AUTH_TOKEN,
	GW_AUTH_BAD					/* another scheme, or malformed */
} gw_auth;

/*
 * An Authorization header (NULL: none): Bearer token, or Basic base64(user:token); user "" where not said.  Wipe token when done.
 */
extern gw_auth gw_auth_read(const char *header, char token[GW_MAX_TOKEN + 1], char user[GW_MAX_TOKEN + 1]);

/* Is a word in a comma separated header, as in If-None-Match and Connection?  Letters' case counts. */
extern bool gw_listed(const char *header, const char *word);

#endif							/* MILLRACE_GATEWAY_FORM_H */
