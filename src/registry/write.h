/*
 * write.h
 *	  Writing to the registry's tables, within the room.
 *
 * Functions run as their caller.  Between reg_write_begin() and reg_write_end()
 * they are the owner of the tables, with a safe search_path and SPI connected;
 * an ERROR undoes all three.
 */
#ifndef MILLRACE_REGISTRY_WRITE_H
#define MILLRACE_REGISTRY_WRITE_H

#include "executor/spi.h"
#include "registry/model.h"

typedef struct reg_write
{
	Oid			user;
	int			sec_context;
	int			guc_level;
	const char *caller;			/* name of the role that asks */
} reg_write;

/* Raises 25006 in a read-only transaction and on a standby; what names the call. */
extern void reg_write_begin(reg_write *w, const char *what);
extern void reg_write_end(reg_write *w);

/*
 * Run one statement; returns the number of rows.  Parameters as for
 * SPI_execute_with_args; nulls may be NULL.  INTERNAL error if the result is
 * not the expected SPI_OK_ code.
 */
extern uint64 reg_execute(const char *sql, int nargs, const Oid *types, const Datum *values,
						  const char *nulls, int expected);

/* The first column of the first row of the last statement; 0 and *isnull if
 * there is no row. */
extern Datum reg_result(int row, int column, bool *isnull);

/* Until commit, nobody else registers, promotes or drops versions of the name,
 * or adds or deletes the bytes. */
extern void reg_lock_name(const char *name);
extern void reg_lock_bytes(const uint8 sha256[32]);

/* Raises 54000 for more than 1 GB. */
extern bytea *reg_bytea(const void *data, size_t size);

/* Point an alias at a version (0: remove it) and write its history; does
 * nothing if it is so already.  Within reg_write_begin(). */
extern void reg_set_alias(const reg_write *w, const char *name, const char *alias, int version, const char *reason);

#endif							/* MILLRACE_REGISTRY_WRITE_H */
