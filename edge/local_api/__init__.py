"""The local API: rankings and events for the apps on the device."""
