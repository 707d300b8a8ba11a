"""The KServe model server: protocol routes around the library's recogniser."""
