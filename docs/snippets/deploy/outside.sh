cd /srv/project
sudo -u project venv/bin/python manage.py websocket send ID "hello from afar"
sudo -u project venv/bin/python manage.py websocket close ID --code 4000 --reason "see you"
