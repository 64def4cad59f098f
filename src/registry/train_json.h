/*
 * train_json.h
 *	  Members of a jsonb object under construction.
 */
#ifndef MILLRACE_REGISTRY_TRAIN_JSON_H
#define MILLRACE_REGISTRY_TRAIN_JSON_H

#include "utils/jsonb.h"

extern void json_push_key(JsonbParseState **state, const char *key);
/* NULL gives null. */
extern void json_push_string(JsonbParseState **state, const char *key, const char *text);
extern void json_push_integer(JsonbParseState **state, const char *key, int64 n);
/* Rounded to six digits; NaN and infinity (not measured) leave the member out. */
extern void json_push_number(JsonbParseState **state, const char *key, double x);
/* The same with all its digits. */
extern void json_push_double(JsonbParseState **state, const char *key, double x);
extern void json_push_bool(JsonbParseState **state, const char *key, bool b);
extern void json_push_json(JsonbParseState **state, const char *key, Jsonb *value);
/* Elements of an array. */
extern void json_push_element(JsonbParseState **state, const char *text);
extern void json_push_number_element(JsonbParseState **state, double x);
extern void json_push_integer_element(JsonbParseState **state, int64 n);
/* jsonb_in() of a C string. */
extern Jsonb *json_of(const char *text);

#endif							/* MILLRACE_REGISTRY_TRAIN_JSON_H */
