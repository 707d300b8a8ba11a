# What CloudWatch watches in this region.

module "observability" {
  source = "../modules/observability"

  name       = var.name
  emails     = var.alarm_emails
  budget_usd = var.budget_usd
  key_arn    = module.platform_key.arn
  anomalies  = local.anomalies
  limits     = local.limits
}

locals {
  database = { DBInstanceIdentifier = module.database.identifier }
  audio    = { BucketName = module.storage.bucket_names["audio"], FilterId = "all" }
  function = { FunctionName = "${var.name}-ingest" }

  anomalies = {
    uploads = {
      means      = "Far more or fewer files arrive than at this hour of other weeks: a source has stopped, or floods us."
      namespace  = "AWS/Lambda"
      metric     = "Invocations"
      dimensions = local.function
      statistic  = "Sum"
      low        = true
    }
    upload-latency = {
      means      = "Files take longer to be taken in than usual."
      namespace  = "AWS/Lambda"
      metric     = "Duration"
      dimensions = local.function
      statistic  = "Average"
    }
    refused-requests = {
      means      = "S3 refuses more requests for audio than usual: a wrong policy, or somebody who tries."
      namespace  = "AWS/S3"
      metric     = "4xxErrors"
      dimensions = local.audio
      statistic  = "Sum"
    }
    audio-downloads = {
      means      = "More audio leaves the bucket than usual: a runaway job, or somebody who copies it."
      namespace  = "AWS/S3"
      metric     = "BytesDownloaded"
      dimensions = local.audio
      statistic  = "Sum"
    }
    database-connections = {
      means      = "More connections to the database than usual: a pool that leaks."
      namespace  = "AWS/RDS"
      metric     = "DatabaseConnections"
      dimensions = local.database
      statistic  = "Average"
    }
    database-latency = {
      means      = "The database writes more slowly than usual."
      namespace  = "AWS/RDS"
      metric     = "WriteLatency"
      dimensions = local.database
      statistic  = "Average"
    }
  }

  limits = merge(
    {
      failed-uploads = {
        means      = "Files could not be taken in and wait in the queue ${var.name}-ingest-failed."
        namespace  = "AWS/SQS"
        metric     = "ApproximateNumberOfMessagesVisible"
        dimensions = { QueueName = "${var.name}-ingest-failed" }
        statistic  = "Maximum"
        above      = 0
      }
      database-storage = {
        means      = "Less than 5 GB of storage is left to the database."
        namespace  = "AWS/RDS"
        metric     = "FreeStorageSpace"
        dimensions = local.database
        statistic  = "Minimum"
        below      = 5000000000 # bytes
      }
    },
    !local.following ? {} : {
      database-behind = {
        means      = "The replica is more than five minutes behind: that much would be lost in a failover."
        namespace  = "AWS/RDS"
        metric     = "ReplicaLag"
        dimensions = local.database
        statistic  = "Maximum"
        above      = 300 # seconds
      }
    },
  )
}
