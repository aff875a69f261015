// Writes lines of readings to stdout, of the series in turn or drawn, with the values of loop.c.
//
//     lines COUNT SERIES FIRST_NS STEP_NS [turn | random]

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int count, char **arguments) {
    if (count < 5) return 2;
    int is_drawn = count == 6 && strcmp(arguments[5], "random") == 0;
    uint64_t drawn = 1;
    int64_t lines = atoll(arguments[1]), series = atoll(arguments[2]);
    int64_t time = atoll(arguments[3]), step = atoll(arguments[4]);
    for (int64_t n = 0; n < lines; n++, time += step) {
        drawn = drawn * 6364136223846793005u + 1442695040888963407u;
        int64_t s = is_drawn ? (int64_t)((drawn >> 33) % (uint64_t)series) : n % series;
        double value = (1800 + ((uint64_t)n * 0x9E3779B97F4A7C15u >> 54)) / 100.0;
        if (series == 8)
            printf("weather,station=s%lld", (long long)s);
        else
            printf("climate,site=plant-7,building=b%02lld,room=r%03lld,sensor=bme280-%06lld", (long long)(s / 10000),
                   (long long)(s / 100 % 1000), (long long)s);
        printf(" temperature_c=%.2f %lld\n", value, (long long)time);
    }
    return fflush(stdout) ? 1 : 0;
}
