PACKAGES = ["python3-minimal", "libpython3.11-stdlib", "sqlite3", "coreutils", "redis-server", "influxdb", "mosquitto", "rsyslog", "rsyslog-relp"]
def all_of(binary):
    return {}
