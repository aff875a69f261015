// The loop that seawall is measured against: what SQLite itself takes for these rows, with nothing to parse, to check
// or to answer. The table is that of the readings, the statement is prepared once, a commit has 1000 rows at most.
//
//     cc -O2 -DSQLITE_THREADSAFE=0 loop.c sqlite3.c -o loop     benches/programs.py has the flags that are measured
//     loop DB ROWS PAGE_BYTES normal|full [ROWS_PER_SECOND ROWS_PER_TICK COMMIT_SECONDS]
//
// ROWS 0 goes on until SIGTERM, and then commits, checkpoints and leaves WAL mode as seawall does; -1 only opens and
// closes. Other checkpoints are SQLite's own, at its 1000 pages and at the close. With a pace, rows come so many in each
// tick, and a commit comes after so many seconds or 1000 rows.

#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sqlite3.h"

enum { BATCH = 1000 };
static volatile sig_atomic_t is_over;

static void end(int signal) {
    (void)signal;
    is_over = 1;
}

static sqlite3 *db;

static void must(int is_true) {
    if (is_true) return;
    fprintf(stderr, "loop: %s\n", sqlite3_errmsg(db));
    exit(1);
}

static void run(const char *sql) { must(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK); }

static sqlite3_stmt *prepare(const char *sql) {
    sqlite3_stmt *statement;
    must(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK);
    return statement;
}

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(int count, char **arguments) {
    if (count != 5 && count != 8) return 2;
    int64_t rows = atoll(arguments[2]);
    double per_second = count == 8 ? atof(arguments[5]) : 0;
    int64_t per_tick = count == 8 ? atoll(arguments[6]) : 1;
    int64_t commit_ns = count == 8 ? (int64_t)(atof(arguments[7]) * 1e9) : INT64_MAX;
    struct sigaction action = {.sa_handler = end};
    sigaction(SIGTERM, &action, NULL);

    char pragmas[200];
    snprintf(pragmas, sizeof pragmas, "PRAGMA page_size=%s; PRAGMA journal_mode=WAL; PRAGMA synchronous=%s",
             arguments[3], arguments[4]);
    must(sqlite3_open_v2(arguments[1], &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) ==
         SQLITE_OK);
    run(pragmas);
    run("CREATE TABLE IF NOT EXISTS readings(id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, series INTEGER NOT "
        "NULL, value NOT NULL)");
    sqlite3_stmt *last = prepare("SELECT coalesce(max(id), 0) FROM readings");
    must(sqlite3_step(last) == SQLITE_ROW);
    int64_t n = sqlite3_column_int64(last, 0), stop = rows ? n + rows : INT64_MAX;
    sqlite3_finalize(last);
    sqlite3_stmt *insert = prepare("INSERT INTO readings VALUES(?1, ?2, ?3, ?4)");
    fputs("event=ready \n", stderr);

    int64_t due = nanoseconds(), since = due, first = n;
    run("BEGIN IMMEDIATE");
    for (int64_t uncommitted = 0; n < stop && !is_over;) {
        sqlite3_bind_int64(insert, 1, n + 1);
        sqlite3_bind_int64(insert, 2, 1700000000000000000 + n * 1000000);
        sqlite3_bind_int64(insert, 3, n % 8 + 1);
        // Two decimals, as sensors have, in no order.
        sqlite3_bind_double(insert, 4, (1800 + ((uint64_t)n * 0x9E3779B97F4A7C15u >> 54)) / 100.0);
        must(sqlite3_step(insert) == SQLITE_DONE);
        sqlite3_reset(insert);
        n++, uncommitted++;
        if (per_second && (n - first) % per_tick == 0) {
            due += (int64_t)(per_tick * 1e9 / per_second);
            struct timespec until = {due / 1000000000, due % 1000000000};
            while (!is_over && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL)) {}
        }
        if (uncommitted == BATCH || (per_second && due - since >= commit_ns)) {
            run("COMMIT");
            run("BEGIN IMMEDIATE");
            uncommitted = 0, since = due;
        }
    }
    run("COMMIT");
    sqlite3_finalize(insert);
    if (is_over) run("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode=MEMORY");
    must(sqlite3_close(db) == SQLITE_OK);
    return 0;
}
