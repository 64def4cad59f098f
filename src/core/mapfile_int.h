/*
 * mapfile_int.h
 *	  What mapfile_pg.c and mapfile_collect_pg.c share.
 */
#ifndef MILLRACE_MAPFILE_INT_H
#define MILLRACE_MAPFILE_INT_H

/* In the data directory, which is every server process's working directory. */
#define MR_MAP_DIR "pgsql_tmp_millrace"

/* Locks that belong to the open file where the system has them, else to the
 * process: enough, as a process builds one file at a time. */
#ifdef F_OFD_SETLK
#define MR_SETLK F_OFD_SETLK
#else
#define MR_SETLK F_SETLK
#endif

struct stat;

/* checked_pg.c: files whose checksum was right since the server started. */
extern bool mr_checked(const uint8 *key, const struct stat *st);
extern void mr_checked_add(const uint8 *key, const struct stat *st);
extern void mr_checked_init(void);

#endif							/* MILLRACE_MAPFILE_INT_H */
