"""What single servers leave out of ASGI; a module for each server that needs one."""
