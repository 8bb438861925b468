from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="LogEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(auto_now_add=True)),
                ("esp", models.CharField(max_length=40)),
                ("message_id", models.CharField(blank=True, db_index=True, max_length=250)),
                ("recipient", models.CharField(db_index=True, max_length=320)),
                ("kind", models.CharField(max_length=10)),
                ("what", models.CharField(max_length=20)),
                ("detail", models.TextField(blank=True)),
            ],
        ),
        migrations.CreateModel(
            name="Suppressed",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("address", models.CharField(max_length=320, unique=True)),
                ("reason", models.CharField(max_length=20)),
                ("since", models.DateTimeField(auto_now_add=True)),
            ],
        ),
    ]
